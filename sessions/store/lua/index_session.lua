#!lua
-- Puts a session that was created before there were indexes into them.
-- KEYS
--   S: base of the session (writes :meta hash)
--   P: base of its partition (writes the indexes of sessions)
-- ARGV
--   title: of the session if it has none, its bytes; or ''
--   hidden: 1 if no list shows the session, else 0
-- Returns
--   indexed
--   gone (there is no such session any more)
--!include clock
--!include session
local meta = S .. ':meta'
local m = redis.call('HMGET', meta, 'created', 'used', 'wake', 'ttl', 'open')
if not m[1] then return { 'gone' } end
local ttl, expires = tonumber(m[4] or '') or 0, redis.call('PEXPIRETIME', meta)
-- Its last use was not recorded: it was ttl before its expiry, or not earlier than the last wake-up of a turn.
local used = tonumber(m[2] or '') or expires > 0 and expires - ttl
  or math.max(tonumber(m[1]), tonumber(m[3] or '') or 0)
if hidden == '1' then redis.call('HSET', meta, 'hidden', 1) end
if title ~= '' then redis.call('HSETNX', meta, 'title', title) end
redis.call('HSET', meta, 'used', used)
list_session(used)
if expires > 0 then note_expiry(expires) end
return { 'indexed' }
