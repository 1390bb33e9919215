#!lua flags=allow-oom
-- Looks at the sessions of partitions that are due, and names those whose wake-up must be published again. Also removes
-- sessions that have expired from the indexes by which sessions are listed.
-- KEYS
--   partitions[]: bases of partitions; on a cluster only one (writes :wakeups zset, :expiring zset, the indexes of sessions;
--      reads and writes :meta, :mailbox, :later of their sessions and all that ends a turn; reads :lease, :schedules:due)
-- ARGV
--   most: how many sessions to look at in each partition
--   marks: JSON object: queue -> [acceptance time of the newest wake-up consumed (ms), length of the queue]
-- Returns
--   looked: now_ms, due[ref, queue] (the sessions whose wake-up is to be published, and to which queue; queue '': a
--      schedule of the session is due)
local S, P
--!include clock
--!include session
local now, read, found = now_ms(), cjson.decode(marks), {}
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

-- Is the session's wake-up still in its queue? Then it is not lost, however long the queue is.
local function on_its_way(m)
  local wake, mark = tonumber(m[1] or '') or 0, read[m[2] or '']
  return wake > 0 and mark and mark[2] > 0 and wake >= mark[1]
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
  local m = redis.call('HMGET', S .. ':meta', 'wake', 'wake_queue', 'queue')
  if (held or r[1] ~= 'running') and on_its_way(m) then
    local pause = math.min(5000, math.max(1000, (now - m[1]) / 4)) -- growing pauses, so that a backlog costs little
    redis.call('ZADD', P .. ':wakeups', now + pause, member)
    return
  end
  local queue = (m[3] or 'turns') .. '.rescue'
  redis.call('HSET', S .. ':meta', 'wake', now, 'wake_queue', queue)
  redis.call('ZADD', P .. ':wakeups', now + LOST_WAKE_MS, member)
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
