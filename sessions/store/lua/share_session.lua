#!lua
-- Lets another user read or write a session, or ends that.
-- At maxmemory the server refuses this script (no allow-oom), on purpose: it makes the store grow.
-- KEYS
--   S: base of the session (writes :shares hash; reads :meta hash)
--   P: base of its partition (writes :used~<list>, :made~<list>, :shared~<list> and :expiring zsets)
-- ARGV
--   user: id of the owner, or ''
--   other: id of the user it is shared with
--   rights: read | write, or '' to end the sharing
--   most: how many users a session may be shared with
-- Returns
--   shared: before (what the other user had before, '' for nothing)
--   other_owner (the session belongs to another user)
--   missing (there is no such session)
--   unowned (the session has no owner, so every user may use it)
--   full: count (of the users that it is shared with)
--!include session
--!include rights
local meta, shares = S .. ':meta', S .. ':shares'
local r = redis.call('HMGET', meta, 'created', 'owner', 'used')
if not r[1] then return { 'missing' } end
if not allowed(user, 'own') then return { 'other_owner' } end
if not r[2] then return { 'unowned' } end
local before = redis.call('HGET', shares, other) or ''
if rights == '' then
  redis.call('HDEL', shares, other)
  if escaped(other) ~= escaped(r[2]) then unlist(escaped(other)) end
  return { 'shared', before }
end
local count = redis.call('HLEN', shares)
if before == '' and count >= tonumber(most) then return { 'full', count } end
redis.call('HSET', shares, other, rights)
list_session(r[3] or r[1])
local at = redis.call('PEXPIRETIME', meta)
if at > 0 then -- the same end as the session's other keys have
  redis.call('PEXPIREAT', shares, at)
  note_expiry(at)
end
return { 'shared', before }
