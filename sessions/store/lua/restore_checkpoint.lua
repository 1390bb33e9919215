#!lua
-- Restores a session's state from a checkpoint. The history is never cut: to go back in it, fork the session.
-- KEYS
--   S: base of the session (writes :state hash, :op:<id> string; reads :checkpoints hash, :meta hash)
--   P: base of its partition (writes the indexes of sessions)
-- ARGV
--   number: of the checkpoint
--   user: id, or ''
--   operation: its id; a retry after a lost reply changes nothing
-- Returns
--   restored: checkpoint (JSON)
--   missing (there is no such checkpoint)
--   other_owner (the session belongs to another user)
--!include clock
--!include session
--!include rights
if not allowed(user, 'write') then return { 'other_owner' } end
local raw = redis.call('HGET', S .. ':checkpoints', number)
if not raw then return { 'missing' } end
if redis.call('SET', S .. ':op:' .. operation, 1, 'PX', 60000, 'NX') == false then return { 'restored', raw } end
redis.call('DEL', S .. ':state')
for field, value in pairs(cjson.decode(raw).state) do redis.call('HSET', S .. ':state', field, value) end
note_use(now_ms())
return { 'restored', raw }
