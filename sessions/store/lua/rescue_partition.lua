#!lua flags=allow-oom
-- Looks at the sessions of partitions that are due, and names those that wait for a worker. Also removes sessions that have
-- expired from the indexes by which sessions are listed.
-- KEYS
--   partitions[]: bases of partitions; on a cluster only one (writes :wakeups zset, :expiring zset, the indexes of sessions;
--      reads and writes :meta, :mailbox, :later of their sessions and all that ends a turn; reads :lease, :schedules:due)
-- ARGV
--   most: how many sessions to look at in each partition
-- Returns
--   looked: now_ms, due[ref, queue] (sessions that wait, and the queue for their wake-up if they have lost it; queue '':
--      a schedule of the session is due)
local S, P
--!include clock
--!include session
local now, found = now_ms(), {}
found[1], found[2] = 'looked', tostring(now)

-- A schedule of the session is due: a worker acts on it, whether or not a turn runs. The session is looked at again in a
-- second, in case that worker dies.
local function find_ticks(member)
  if redis.call('ZCOUNT', S .. ':schedules:due', '-inf', now) == 0 then return end
  found[#found + 1] = member
  found[#found + 1] = ''
  local score = tonumber(redis.call('ZSCORE', P .. ':wakeups', member) or '')
  if score and score <= now then redis.call('ZADD', P .. ':wakeups', now + 1000, member) end
end

local function look(member)
  S = P .. ':' .. member
  expire_waits(now)
  return_due(now)
  local id = redis.call('LINDEX', S .. ':mailbox', 0)
  local r = id and redis.call('HMGET', turn_key(id), 'status', 'not_before') or {}
  local not_before = tonumber(r[2] or '') or 0
  local asleep = not_before > now or (r[1] == 'waiting' and not_before == 0)
  local effects = redis.call('EXISTS', S .. ':outbox') == 1
  local held = redis.call('EXISTS', S .. ':lease') == 1
  if not effects and (held or not id or asleep) then return reindex(now) end
  local m = redis.call('HMGET', S .. ':meta', 'wake', 'queue')
  local wake, queue, pause = tonumber(m[1] or '') or 0, (m[2] or 'turns') .. '.rescue', LOST_WAKE_MS
  if wake == 0 or not held and r[1] == 'running' then -- no wake-up is on its way: a pause has ended, or a worker crashed
    redis.call('HSET', S .. ':meta', 'wake', now, 'wake_queue', queue)
  else
    pause = math.min(5000, math.max(pause, (now - wake) / 4)) -- growing pauses, so that a backlog costs little
  end
  redis.call('ZADD', P .. ':wakeups', now + pause, member)
  found[#found + 1] = member
  found[#found + 1] = queue
end

for _, partition in ipairs(partitions) do
  P = partition
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', P .. ':wakeups', '-inf', now, 'LIMIT', 0, most)) do
    look(member)
    find_ticks(member)
  end
  unlist_expired(now, most)
end
return found
