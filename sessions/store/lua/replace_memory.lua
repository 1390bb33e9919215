#!lua
-- Replaces a memory of a session or a user by a newer version of it, unless it was changed since it was read.
-- At maxmemory the server refuses this script (no allow-oom), on purpose: it may make the store grow.
-- KEYS
--   S: base of the session or user (writes :memory hash, :memory:log stream, :memory:vectors hash, :memory:texts hash,
--      :op:<id> string; of a session reads :meta hash)
--   P: base of its partition (of a session writes the indexes of sessions)
-- ARGV
--   operation: its id; a retry after a lost reply changes nothing and gets the same reply
--   scope: session | wide (a user's)
--   user: id, or ''
--   remembered_ms: how long the operation's id is remembered
--   id: of the memory
--   digest: SHA-1 of the memory as it was read (hex)
--   memory: its new bytes; no script reads them
--   same_text: 1 if the text stays, so that its vector does; else 0
--   same[]: the digests that its content may have, first the one to store
-- Returns
--   replaced
--   missing (there is no such memory)
--   changed (nothing written: the memory is another than the one that was read)
--   other_owner (the session belongs to another user)
--!include clock
--!include session
--!include rights
--!include memory
local all, done = S .. ':memory', S .. ':op:' .. operation
if redis.call('EXISTS', done) == 1 then return { 'replaced' } end
if scope == 'session' then
  if not allowed(user, 'write') then return { 'other_owner' } end
end
local before = redis.call('HGET', all, id)
if not before then return { 'missing' } end
if redis.sha1hex(before) ~= digest then return { 'changed' } end

redis.call('HSET', all, id, memory)
if same_text ~= '1' then redis.call('HDEL', S .. ':memory:vectors', id) end
note_content(id, same)
note_change('replace', id)
if scope == 'session' then note_use(now_ms()) end
redis.call('SET', done, 1, 'PX', remembered_ms)
return { 'replaced' }
