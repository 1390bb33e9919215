#!lua flags=no-writes
-- Reads what a copy of a session takes along, in one step.
-- A script and no MULTI, because a Redis 7.0 at its maxmemory refuses every command inside a MULTI.
-- KEYS 1 session base   (reads :history list, :state hash, :agents hash)
-- ARGV none
-- Returns values of :history, then of :state and of :agents, each as field, value, field, value
local S = KEYS[1]
return {
  redis.call('LRANGE', S .. ':history', 0, -1), redis.call('HGETALL', S .. ':state'),
  redis.call('HGETALL', S .. ':agents'),
}
