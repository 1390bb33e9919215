#!lua
-- Puts values in the place of others that are still there: the same, sealed with another key.
-- KEYS 1 base of a session, lane, user or tenant   (writes :history list, :memory:log stream, :turn:<id>:upload string,
--                        and :agents, :state, :checkpoints, :memory, :memory:vectors, :sources, :texts, :turn:<id>,
--                        :turn:<id>:journal hashes)
-- KEYS 2 partition base
-- ARGV 1 the key behind its base · 2 hash | list | string
--      3... three each: field, index or '', the value as it was read, the new one
-- Returns resealed, how many
--!include session
--!include memory
S, P = KEYS[1], KEYS[2]
local key, kind, done = S .. ':' .. ARGV[1], ARGV[2], 0

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
  if ARGV[1] == 'memory' then note_change('reseal', field) end -- copies know a memory by its bytes
  done = done + 1
end

for i = 3, #ARGV, 3 do replace(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
return { 'resealed', done }
