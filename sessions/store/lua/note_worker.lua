#!lua flags=allow-oom
-- A worker reports that it is alive, and how far it has read its queues.
-- KEYS
--   F: base of the fleet (writes :worker:<id> string, :workers zset, :consumed hash, :models zset)
-- ARGV
--   worker: its id
--   info: JSON, or '' when the worker leaves
--   alive_ms: how long the report counts
--   consumed[queue, accepted_ms]: acceptance time of the newest wake-up it consumed from each queue
-- Returns
--   noted: models[] (digests of the models whose calls are being held back)
--!include clock
local now = now_ms()
if info == '' then
  redis.call('DEL', F .. ':worker:' .. worker)
  redis.call('ZREM', F .. ':workers', worker)
else
  redis.call('SET', F .. ':worker:' .. worker, info, 'PX', alive_ms)
  redis.call('ZADD', F .. ':workers', now, worker)
end
redis.call('ZREMRANGEBYSCORE', F .. ':workers', '-inf', now - alive_ms)
redis.call('PEXPIRE', F .. ':workers', 3600000)
for i = 1, #consumed, 2 do
  local queue, accepted_ms = consumed[i], consumed[i + 1]
  local known = tonumber(redis.call('HGET', F .. ':consumed', queue) or '') or 0
  if tonumber(accepted_ms) > known then redis.call('HSET', F .. ':consumed', queue, accepted_ms) end
end
redis.call('PEXPIRE', F .. ':consumed', 3600000)
redis.call('ZREMRANGEBYSCORE', F .. ':models', '-inf', now)
return { 'noted', unpack(redis.call('ZRANGE', F .. ':models', 0, -1)) }
