#!lua flags=no-writes
-- Reads in one step what a copy of a session contains.
-- It is a script and not a MULTI because Redis 7.0 at maxmemory refuses every command inside a MULTI.
-- KEYS
--   S: base of the session (reads :history list, :state hash, :agents hash)
-- ARGV
-- Returns
--   session_found: history, state, agents
return {
  'session_found', redis.call('LRANGE', S .. ':history', 0, -1), redis.call('HGETALL', S .. ':state'),
  redis.call('HGETALL', S .. ':agents'),
}
