#!lua flags=allow-oom
-- Looks at the sessions of partitions that are due, and names those whose wake-up must be published again.
-- KEYS 1... partition bases (on a cluster: one) (writes :wakeups zset; reads and writes its sessions' :meta, :mailbox, :later and all that ends a turn, reads :lease)
-- ARGV 1 most sessions to look at · 2 JSON object: queue -> [acceptance time of the newest wake-up consumed (ms), length]
-- Returns sessions, then ref, queue of each that needs a wake-up, now (ms) first: now, ref, queue, ...
--!include clock
--!include session
local now, marks, found = now_ms(), cjson.decode(ARGV[2]), {}
found[1] = tostring(now)

-- Is the session's wake-up still on its way? Then nothing is lost, however long the queue is (R9).
local function on_its_way(m)
  local wake, mark = tonumber(m[1] or '') or 0, marks[m[2] or '']
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

for _, partition in ipairs(KEYS) do
  P = partition
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', P .. ':wakeups', '-inf', now, 'LIMIT', 0, ARGV[1])) do
    look(member)
  end
end
return found
