#!lua
-- Stores the vectors of memories that have not changed since they were read. A retry changes nothing.
-- KEYS
--   S: base of the session or user (writes :memory:vectors hash; reads :memory hash)
-- ARGV
--   tag: of the embedding model
--   vectors[memory, digest, vector]: id of the memory, SHA-1 of the memory as it was read (hex), bytes of the vector
-- Returns
--   vectors_noted: count
local noted = 0
for i = 1, #vectors, 3 do
  local id, digest, vector = unpack(vectors, i, i + 2)
  local memory = redis.call('HGET', S .. ':memory', id)
  if memory and redis.sha1hex(memory) == digest then
    redis.call('HSET', S .. ':memory:vectors', id, tag .. ':' .. vector)
    noted = noted + 1
  end
end
-- Storing a vector does not extend the session's life: vectors expire together with the memories.
local expires = redis.call('PEXPIRETIME', S .. ':memory')
if noted > 0 and expires > 0 then redis.call('PEXPIREAT', S .. ':memory:vectors', expires) end
return { 'vectors_noted', noted }
