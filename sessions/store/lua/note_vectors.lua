#!lua
-- Keeps the vectors of memories that are still as they were when they were read. Sent again, it changes nothing.
-- KEYS 1 base of what remembers   (writes :memory:vectors hash; reads :memory hash)
-- ARGV 1 tag of the embedding model
--      2... three each: memory id, SHA-1 of the memory as it was read (hex), vector (bytes)
-- Returns noted, how many
local S = KEYS[1]
local all, vectors, noted = S .. ':memory', S .. ':memory:vectors', 0
for i = 2, #ARGV, 3 do
  local memory = redis.call('HGET', all, ARGV[i])
  if memory and redis.sha1hex(memory) == ARGV[i + 1] then
    redis.call('HSET', vectors, ARGV[i], ARGV[1] .. ':' .. ARGV[i + 2])
    noted = noted + 1
  end
end
-- To note a vector is no use of a session: it expires when its memories do, and not later.
local expires = redis.call('PEXPIRETIME', all)
if noted > 0 and expires > 0 then redis.call('PEXPIREAT', vectors, expires) end
return { 'noted', noted }
