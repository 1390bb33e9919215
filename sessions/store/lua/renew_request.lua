#!lua flags=allow-oom
-- Renews the reservations of requests that are still open. A reservation that was released or has expired is not made
-- again, for the release may have overtaken this.
-- KEYS
--   L: base of the caller's limits (writes :open zset)
-- ARGV
--   reservation_ms: how long a reservation lasts
--   requests[]: ids of the reservations
-- Returns
--   renewed
--!include clock
local open, now = L .. ':open', now_ms()
for _, request in ipairs(requests) do redis.call('ZADD', open, 'XX', now + reservation_ms, request) end
redis.call('PEXPIRE', open, reservation_ms)
return { 'renewed' }
