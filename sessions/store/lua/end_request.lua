#!lua flags=allow-oom
-- Gives a request's reservation back.
-- KEYS 1 base of the caller's limits (writes :open zset)
-- ARGV 1 reservation id
-- Returns ok
redis.call('ZREM', KEYS[1] .. ':open', ARGV[1])
return { 'ok' }
