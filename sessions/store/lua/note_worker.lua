#!lua flags=allow-oom
-- A worker says that it is alive, and how far it has read its queues.
-- KEYS 1 fleet base (writes :worker:<id> string, :workers zset, :consumed hash)
-- ARGV 1 worker id · 2 what it says of itself (JSON), or '' when it leaves · 3 alive for (ms)
--      4... queue, acceptance time of the newest wake-up it consumed (ms)
-- Returns ok
--!include clock
local F, now = KEYS[1], now_ms()
if ARGV[2] == '' then
  redis.call('DEL', F .. ':worker:' .. ARGV[1])
  redis.call('ZREM', F .. ':workers', ARGV[1])
else
  redis.call('SET', F .. ':worker:' .. ARGV[1], ARGV[2], 'PX', ARGV[3])
  redis.call('ZADD', F .. ':workers', now, ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', F .. ':workers', '-inf', now - ARGV[3])
redis.call('PEXPIRE', F .. ':workers', 3600000)
for i = 4, #ARGV, 2 do
  local known = tonumber(redis.call('HGET', F .. ':consumed', ARGV[i]) or '') or 0
  if tonumber(ARGV[i + 1]) > known then redis.call('HSET', F .. ':consumed', ARGV[i], ARGV[i + 1]) end
end
redis.call('PEXPIRE', F .. ':consumed', 3600000)
return { 'ok' }
