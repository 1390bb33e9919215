#!lua flags=allow-oom
-- Divides the work of rescuing among the running workers: each claims some groups of partitions for a short time.
-- A claim only saves work and protects nothing: two rescuers of one group merely publish a wake-up twice.
-- KEYS
--   F: base of the fleet (writes :claim:<group> strings; reads :workers zset)
-- ARGV
--   worker: id of this worker
--   claim_ms: how long a claim lasts
--   groups: how many there are
--   alive_ms: a worker seen within this time is alive
-- Returns
--   claimed: groups[] (their numbers)
--!include clock
local now, mine = now_ms(), { 'claimed' }
local alive = math.max(1, redis.call('ZCOUNT', F .. ':workers', now - alive_ms, '+inf'))
local fair = math.ceil(groups / alive)
for group = 0, groups - 1 do
  local key = F .. ':claim:' .. group
  local holder = redis.call('GET', key)
  if holder == worker and #mine > fair then
    redis.call('DEL', key)
  elseif holder == worker or (not holder and #mine <= fair) then
    redis.call('SET', key, worker, 'PX', claim_ms)
    mine[#mine + 1] = group
  end
end
return mine
