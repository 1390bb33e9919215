#!lua flags=allow-oom
-- Releases a request's reservation.
-- KEYS
--   L: base of the caller's limits (writes :open zset)
-- ARGV
--   request: id of the reservation
-- Returns
--   released
redis.call('ZREM', L .. ':open', request)
return { 'released' }
