#!lua
-- Notes what became of documents: the list of a lane's knowledge, or the texts of their chunks.
-- KEYS 1 session base   (writes :sources hash or :texts hash, :meta hash; reads :lease, :turn:<id> hash)
-- KEYS 2 partition base (writes :lanes set)
-- ARGV 1 turn id · 2 lease value · 3 sources | texts · 4... field, value ('' removes the field)
-- Returns ok | lost (nothing written)
--!include session
S, P = KEYS[1], KEYS[2]
local r = redis.call('HMGET', turn_key(ARGV[1]), 'owner', 'status')
if redis.call('GET', S .. ':lease') ~= ARGV[2] or r[1] ~= ARGV[2] or r[2] ~= 'running' then return { 'lost' } end
local key = S .. (ARGV[3] == 'texts' and ':texts' or ':sources')
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', key, ARGV[i]) else redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
end
-- The lanes that have documents: they are found by this when their session expires.
if key == S .. ':sources' then
  local any, home = redis.call('EXISTS', key) == 1, string.match(S, '^([^~]*)~knowledge$')
  redis.call(any and 'SADD' or 'SREM', P .. ':lanes', ref())
  -- Whose they are: a session of this id that is made after this one expired is another one, perhaps another user's.
  if not any then
    redis.call('HDEL', S .. ':meta', 'of')
  elseif home then
    redis.call('HSETNX', S .. ':meta', 'of', redis.call('HGET', home .. ':meta', 'created') or '')
  end
end
return { 'ok' }
