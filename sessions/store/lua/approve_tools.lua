#!lua
-- Changes which tools' calls need no more approval in a session.
-- KEYS
--   S: base of the session (writes :meta hash; reads :shares hash)
-- ARGV
--   user: id, or ''
--   expected: bytes of the list that the change was decided on, or '' for none
--   tools: bytes of the new list, or '' for none
-- Returns
--   updated
--   missing (there is no such session)
--   other_owner (the user may not write to the session)
--   changed (nothing was written: the list has changed; decide again)
--!include rights
local meta = S .. ':meta'
if redis.call('HEXISTS', meta, 'created') == 0 then return { 'missing' } end
if not allowed(user, 'write') then return { 'other_owner' } end
local there = redis.call('HGET', meta, 'approved_tools') or ''
if there ~= expected and there ~= tools then return { 'changed' } end
if tools == '' then redis.call('HDEL', meta, 'approved_tools') else redis.call('HSET', meta, 'approved_tools', tools) end
return { 'updated' }
