#!lua flags=allow-oom
-- Admits a request if its caller's limits allow it: a token bucket for the rate, and a reservation for each open request.
-- A reservation expires unless it is renewed, so a gateway that was killed does not hold any for long.
-- Runs at maxmemory (allow-oom): it writes little, and reading, cancelling and deleting must still be possible then.
-- KEYS
--   L: base of the caller's limits (writes :rate string, :open zset)
-- ARGV
--   request: id of the reservation; a retry after a lost reply is not counted twice
--   rate: requests a minute; 0 for no limit
--   concurrency: open requests; 0 for no limit
--   reservation_ms: how long the reservation lasts
--   ended[]: reservations to release first, for their own end_request may arrive after this
-- Returns
--   admitted
--   rate: wait_ms
--   concurrency: wait_ms
--!include clock
local now, open = now_ms(), L .. ':open'
local per_minute, most = tonumber(rate), tonumber(concurrency)
if redis.call('ZSCORE', open, request) then return { 'admitted' } end
for _, other in ipairs(ended) do redis.call('ZREM', open, other) end
redis.call('ZREMRANGEBYSCORE', open, '-inf', now)
if most > 0 and redis.call('ZCARD', open) >= most then return { 'concurrency', 1000 } end
if per_minute > 0 then
  -- The time at which the bucket is full again. A full bucket admits a minute's requests at once; after that one request
  -- for each interval.
  local interval = 60000 / per_minute
  local full = math.max(now, tonumber(redis.call('GET', L .. ':rate') or '') or 0) + interval
  if full - now > 60000 then return { 'rate', math.ceil(full - now - 60000) } end
  redis.call('SET', L .. ':rate', string.format('%.3f', full), 'PX', math.ceil(full - now) + 1000)
end
redis.call('ZADD', open, now + reservation_ms, request)
redis.call('PEXPIRE', open, reservation_ms)
return { 'admitted' }
