#!lua
-- Records what became of documents: in the list of a lane's documents, or in the texts of their chunks. In a lane
-- ~transcript, how much of the history the index has.
-- KEYS
--   S: base of the session (writes :sources hash or :texts hash, :meta hash; reads :lease, :turn:<id> hash)
--   P: base of its partition (writes :lanes set)
-- ARGV
--   turn
--   lease: its value
--   kind: sources | texts
--   values[field, value]: '' removes the field
-- Returns
--   noted
--   lost (nothing was written: the lease is no longer ours)
--!include session
local r = redis.call('HMGET', turn_key(turn), 'owner', 'status')
if redis.call('GET', S .. ':lease') ~= lease or r[1] ~= lease or r[2] ~= 'running' then return { 'lost' } end
local key = S .. (kind == 'texts' and ':texts' or ':sources')
for i = 1, #values, 2 do
  if values[i + 1] == '' then
    redis.call('HDEL', key, values[i])
  else
    redis.call('HSET', key, values[i], values[i + 1])
  end
end
-- The lanes that have documents are listed, so that the documents of an expired session can be found and removed.
if kind ~= 'texts' then
  local home = string.match(S, '^([^~]*)~knowledge$') or string.match(S, '^([^~]*)~transcript$')
  local any = redis.call('EXISTS', key) == 1
  redis.call(any and 'SADD' or 'SREM', P .. ':lanes', ref())
  -- Which session they belong to: one created under the same id after this one expired may be another user's.
  if not any then
    redis.call('HDEL', S .. ':meta', 'of')
  elseif home then
    redis.call('HSETNX', S .. ':meta', 'of', redis.call('HGET', home .. ':meta', 'created') or '')
  end
end
return { 'noted' }
