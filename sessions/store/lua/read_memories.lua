#!lua flags=no-writes
-- Reads memories and, if wanted, their vectors in one step: no memory comes with the vector of the text it replaced.
-- A script and no MULTI, because a Redis 7.0 at its maxmemory refuses every command inside a MULTI.
-- KEYS 1 base of what remembers   (reads :memory hash, :memory:vectors hash)
-- ARGV 1 vectors | none
--      2... memory ids
-- Returns values of :memory for the ids, then values of :memory:vectors for them, if wanted
local ids = {}
for i = 2, #ARGV do ids[#ids + 1] = ARGV[i] end
local memories = redis.call('HMGET', KEYS[1] .. ':memory', unpack(ids))
if ARGV[1] == 'none' then return { memories } end
return { memories, redis.call('HMGET', KEYS[1] .. ':memory:vectors', unpack(ids)) }
