#!lua flags=allow-oom
-- Removes memories of a session or a user. With the last one, log, vectors and
-- digests are removed, too: no key is left.
-- KEYS
--   S: base of the session or user (writes :memory hash, :memory:log stream, :memory:vectors hash, :memory:texts hash,
--      :op:<id> string; of a session reads :meta hash)
--   P: base of its partition (of a session writes the indexes of sessions)
-- ARGV
--   operation: its id; a retry after a lost reply changes nothing and gets the same reply
--   scope: session | wide (a user's)
--   user: id, or ''
--   remembered_ms: how long the operation's id is remembered
--   ids[]: of memories; none for all of them
-- Returns
--   removed: count
--   other_owner (the session belongs to another user)
--!include clock
--!include session
--!include rights
--!include memory
local all, done = S .. ':memory', S .. ':op:' .. operation
local before = redis.call('GET', done)
if before then return { 'removed', before } end
if scope == 'session' then
  if not allowed(user, 'write') then return { 'other_owner' } end
end
local removed = 0
if #ids == 0 then
  removed = redis.call('HLEN', all)
  redis.call('UNLINK', all)
end
for _, id in ipairs(ids) do
  if redis.call('HDEL', all, id) == 1 then
    redis.call('HDEL', S .. ':memory:vectors', id)
    forget_content(id)
    note_change('remove', id)
    removed = removed + 1
  end
end
if redis.call('EXISTS', all) == 0 then
  redis.call('UNLINK', S .. ':memory:vectors', S .. ':memory:log', S .. ':memory:texts')
end
if scope == 'session' then note_use(now_ms()) end
redis.call('SET', done, removed, 'PX', remembered_ms)
return { 'removed', removed }
