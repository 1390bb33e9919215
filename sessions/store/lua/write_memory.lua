#!lua
-- Adds a memory to a session or a user, or replaces the memory of this id; unless another one has the same content.
-- At maxmemory the server refuses this script (no allow-oom), on purpose: it makes the store grow.
-- KEYS
--   S: base of the session or user (writes :memory hash, :memory:log stream, :memory:vectors hash, :memory:texts hash,
--      :op:<id> string; of a session also :meta hash)
--   P: base of its partition (of a session writes the indexes of sessions)
-- ARGV
--   operation: its id; a retry after a lost reply changes nothing and gets the same reply
--   scope: session | wide (a user's)
--   user: id, or ''
--   session_ttl_ms: '' leaves the session's ttl as it is
--   remembered_ms: how long the operation's id is remembered
--   id: of the memory
--   memory: its bytes; no script reads them
--   most: how many memories there may be
--   same[]: the digests that its content may have, first the one to store; none: do not look for the same content
-- Returns
--   written: count (of memories there are now)
--   other_owner (the session belongs to another user)
--   known: id (of the memory that has the same content; only an owner was written)
--   full: count (of memories there are)
--!include clock
--!include session
--!include rights
--!include memory
local all, done = S .. ':memory', S .. ':op:' .. operation
local before = redis.call('GET', done)
if before then return { 'written', before } end
if scope == 'session' then
  if not allowed(user, 'write') then return { 'other_owner' } end
end
local known = same_memory(same)
if known and known ~= id then
  if scope == 'session' and user ~= '' then redis.call('HSETNX', S .. ':meta', 'owner', user) end
  return { 'known', known }
end
local count = redis.call('HLEN', all)
if count >= tonumber(most) and redis.call('HEXISTS', all, id) == 0 then return { 'full', count } end

count = count + redis.call('HSET', all, id, memory)
redis.call('HDEL', S .. ':memory:vectors', id) -- the vector of the text that this one replaces
note_content(id, same)
note_change('add', id)
if scope == 'session' then
  local now = now_ms()
  redis.call('HSETNX', S .. ':meta', 'created', now)
  if user ~= '' then redis.call('HSETNX', S .. ':meta', 'owner', user) end
  set_ttl(session_ttl_ms)
  note_use(now)
end
redis.call('SET', done, count, 'PX', remembered_ms)
return { 'written', count }
