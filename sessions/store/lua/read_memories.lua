#!lua flags=no-writes
-- Reads memories and, if wanted, their vectors in one step, so that no memory comes with the vector of an older text.
-- It is a script and not a MULTI because Redis 7.0 at maxmemory refuses every command inside a MULTI.
-- KEYS
--   S: base of the session or user (reads :memory hash, :memory:vectors hash)
-- ARGV
--   with_vectors: 1 | 0
--   ids[]: of memories
-- Returns
--   memories_found: memories, vectors (one value of each for every id; no vectors unless wanted)
local memories = redis.call('HMGET', S .. ':memory', unpack(ids))
local vectors = with_vectors == '1' and redis.call('HMGET', S .. ':memory:vectors', unpack(ids)) or {}
return { 'memories_found', memories, vectors }
