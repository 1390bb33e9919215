#!lua flags=allow-oom
-- Shares the work of rescuing among the living workers: each claims some groups of partitions for a short time.
-- A claim is a courtesy, not a lock: two rescuers at once only publish a wake-up twice.
-- KEYS 1 fleet base (writes :claim:<group> strings; reads :workers zset)
-- ARGV 1 worker id · 2 claim (ms) · 3 groups · 4 a worker seen within this time is alive (ms)
-- Returns the numbers of the groups that are ours
--!include clock
local now, mine = now_ms(), {}
local alive = math.max(1, redis.call('ZCOUNT', KEYS[1] .. ':workers', now - ARGV[4], '+inf'))
local fair = math.ceil(ARGV[3] / alive)
for group = 0, ARGV[3] - 1 do
  local key = KEYS[1] .. ':claim:' .. group
  local holder = redis.call('GET', key)
  if holder == ARGV[1] and #mine >= fair then
    redis.call('DEL', key)
  elseif holder == ARGV[1] or (not holder and #mine < fair) then
    redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
    mine[#mine + 1] = group
  end
end
return mine
