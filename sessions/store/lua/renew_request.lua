#!lua flags=allow-oom
-- Keeps the reservations of requests that are still open. One that was given back, or ran out, is not made again:
-- the giving back may have overtaken this.
-- KEYS 1 base of the caller's limits (writes :open zset)
-- ARGV 1 reservation (ms) · 2... reservation ids
-- Returns ok
--!include clock
local open, now = KEYS[1] .. ':open', now_ms()
for i = 2, #ARGV do redis.call('ZADD', open, 'XX', now + ARGV[1], ARGV[i]) end
redis.call('PEXPIRE', open, ARGV[1])
return { 'ok' }
