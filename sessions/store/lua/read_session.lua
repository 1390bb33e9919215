#!lua flags=no-writes
-- Reads in one step what a copy of a session contains.
-- It is a script and not a MULTI because Redis 7.0 at maxmemory refuses every command inside a MULTI.
-- KEYS
--   S: base of the session (reads :history and :segments lists, :meta hash, :state hash, :agents hash)
-- ARGV
-- Returns
--   session_found: segments, history, state, agents
local packed = redis.call('HEXISTS', S .. ':meta', 'packed') == 1
local segments = packed and redis.call('LRANGE', S .. ':segments', 0, -1) or {}
return {
  'session_found', segments, redis.call('LRANGE', S .. ':history', 0, -1),
  redis.call('HGETALL', S .. ':state'),
  redis.call('HGETALL', S .. ':agents'),
}
