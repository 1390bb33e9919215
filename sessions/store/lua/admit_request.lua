#!lua flags=allow-oom
-- Lets a request in where its caller's limits allow: a token bucket for the rate, a reservation for each open request.
-- A reservation expires unless it is renewed, so that a gateway that was killed holds none for long. At maxmemory it
-- still answers: what is written is small, and reading, cancelling and deleting must go on then.
-- KEYS 1 base of the caller's limits (writes :rate string, :open zset)
-- ARGV 1 reservation id: sent again after a lost reply, it is not counted twice · 2 requests a minute (0: no limit)
--      3 open requests (0: no limit) · 4 reservation (ms) · 5... reservations that are given back: on their way
--      alone they may come behind this
-- Returns ok | rate, wait (ms) | concurrency, wait (ms)
--!include clock
local L, now = KEYS[1], now_ms()
local rate, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local open = L .. ':open'
if redis.call('ZSCORE', open, ARGV[1]) then return { 'ok' } end
for i = 5, #ARGV do redis.call('ZREM', open, ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', open, '-inf', now)
if most > 0 and redis.call('ZCARD', open) >= most then return { 'concurrency', 1000 } end
if rate > 0 then
  -- When the bucket is full again. A minute's requests may come at once; then one for each interval.
  local interval = 60000 / rate
  local full = math.max(now, tonumber(redis.call('GET', L .. ':rate') or '') or 0) + interval
  if full - now > 60000 then return { 'rate', math.ceil(full - now - 60000) } end
  redis.call('SET', L .. ':rate', string.format('%.3f', full), 'PX', math.ceil(full - now) + 1000)
end
redis.call('ZADD', open, now + ARGV[4], ARGV[1])
redis.call('PEXPIRE', open, ARGV[4])
return { 'ok' }
