#!lua
-- Changes the state of a session, a user or a tenant: all operations or none.
-- KEYS 1 base of what has the state   (writes :state hash, :op:<id> string; of a session also :meta hash)
-- KEYS 2 partition base
-- ARGV 1 operation id: sent again after a lost reply, it changes nothing and gets the same reply
--      2 session | wide (a user's or tenant's) · 3 user id, or '' · 4 session ttl (ms; '' leaves it)
--      5 how long the operation id is remembered (ms)
--      6... four each: set, field, value (JSON), '' | delete, field, '', '' | increment, field, amount, default
--           | swap, field, expected (JSON, or '' for none), value (JSON)
-- Returns ok, new value of each field ('' for none) | owner | mismatch, field, value now | type, field, value now
--      | range, field, value now (the sum is more than a number can be)
--!include clock
--!include session
--!include state
S, P = KEYS[1], KEYS[2]
local state, done = S .. ':state', S .. ':op:' .. ARGV[1]
local before = redis.call('GET', done)
if before then return cjson.decode(before) end

-- First look at every operation, then change: a refused one leaves nothing half-done.
if ARGV[2] == 'session' then
  local owner = redis.call('HGET', S .. ':meta', 'owner')
  if ARGV[3] ~= '' and owner and owner ~= ARGV[3] then return { 'owner' } end
end
local ahead = {}
for i = 6, #ARGV, 4 do
  local word, value = objection(state, ahead, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
  if word then return { word, ARGV[i + 1], value or '' } end
end

local reply = { 'ok' }
for i = 6, #ARGV, 4 do
  change(state, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
  reply[#reply + 1] = redis.call('HGET', state, ARGV[i + 1]) or ''
end
if ARGV[2] == 'session' then
  local now = now_ms()
  redis.call('HSETNX', S .. ':meta', 'created', now)
  if ARGV[3] ~= '' then redis.call('HSETNX', S .. ':meta', 'owner', ARGV[3]) end
  set_ttl(ARGV[4])
  set_expiry(now)
end
redis.call('SET', done, cjson.encode(reply), 'PX', ARGV[5])
return reply
