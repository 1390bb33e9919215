#!lua
-- Changes the state of a session, a user or a tenant: all operations, or none.
-- KEYS
--   S: base of the session, user or tenant (writes :state hash, :op:<id> string; of a session also :meta hash)
--   P: base of its partition (of a session writes the indexes of sessions)
-- ARGV
--   operation: its id; a retry after a lost reply changes nothing and gets the same reply
--   scope: session | wide (a user's or tenant's)
--   user: id, or ''
--   session_ttl_ms: '' leaves the session's ttl as it is
--   remembered_ms: how long the operation's id is remembered
--   changes[kind, field, a, b]: set, field, value (JSON), '' | delete, field, '', '' | increment, field, amount, default
--      | swap, field, expected (JSON, or '' for none), value (JSON)
-- Returns
--   ok: values[] (the value of each field after its change, '' for none)
--   other_owner (the session belongs to another user)
--   refused: why, field, value (nothing was changed; why: mismatch, a swap expected another value | type, the value is no
--      number to increment | range, the sum is more than a number can be)
--!include clock
--!include session
--!include rights
--!include state
local state, done = S .. ':state', S .. ':op:' .. operation
local before = redis.call('GET', done)
if before then return cjson.decode(before) end

-- Check every operation before changing anything, for a script that is refused half-way keeps what it wrote.
if scope == 'session' then
  if not allowed(user, 'write') then return { 'other_owner' } end
end
local ahead = {}
for i = 1, #changes, 4 do
  local word, value = objection(state, ahead, unpack(changes, i, i + 3))
  if word then return { 'refused', word, changes[i + 1], value or '' } end
end

local reply = { 'ok' }
for i = 1, #changes, 4 do
  change(state, unpack(changes, i, i + 3))
  reply[#reply + 1] = redis.call('HGET', state, changes[i + 1]) or ''
end
if scope == 'session' then
  local now = now_ms()
  redis.call('HSETNX', S .. ':meta', 'created', now)
  if user ~= '' then redis.call('HSETNX', S .. ':meta', 'owner', user) end
  set_ttl(session_ttl_ms)
  note_use(now)
end
redis.call('SET', done, cjson.encode(reply), 'PX', remembered_ms)
return reply
