#!lua
-- Replaces values by the same values encrypted with another key, where they have not changed since they were read.
-- KEYS
--   S: base of a session, lane, user or tenant (writes :history, :segments and :left lists, :memory:log stream,
--      :turn:<id>:upload string, and :meta, :adapters, :agents, :state, :checkpoints, :memory, :memory:vectors, :sources,
--      :texts, :files, :file:<id>, :schedules, :turn:<id>, :turn:<id>:journal hashes)
--   P: base of its partition
-- ARGV
--   name: of the key, without its base
--   kind: hash | list | string
--   values[field, old, new]: field of the hash, index in the list, or ''; the value as it was read; the new one
-- Returns
--   resealed: count
--!include session
--!include memory
local key, done = S .. ':' .. name, 0

local function replace(field, old, new)
  if kind == 'hash' and redis.call('HGET', key, field) == old then
    redis.call('HSET', key, field, new)
  elseif kind == 'list' and redis.call('LINDEX', key, field) == old then
    redis.call('LSET', key, field, new)
  elseif kind == 'string' and redis.call('GET', key) == old then
    redis.call('SET', key, new, 'KEEPTTL')
  else
    return
  end
  if name == 'memory' then note_change('reseal', field) end -- a worker's copy knows a memory by its bytes
  done = done + 1
end

for i = 1, #values, 3 do replace(unpack(values, i, i + 2)) end
return { 'resealed', done }
