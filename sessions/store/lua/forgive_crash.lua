#!lua flags=allow-oom
-- A living worker has given a turn up because it could not reach the store until its lease had ended: no crash (R8).
-- KEYS 1 session base   (writes :turn:<id> hash, :meta hash, :lease string; reads :mailbox list)
-- KEYS 2 partition base (writes :wakeups zset)
-- ARGV 1 turn id · 2 lease value that ended; a renewal that was on its way may have taken it back
-- Returns forgiven | released (nobody had noticed yet) | nothing (it has ended, or was not counted)
--!include clock
--!include session
S, P = KEYS[1], KEYS[2]
local id, value = ARGV[1], ARGV[2]
local r = redis.call('HMGET', turn_key(id), 'status', 'owner')
if FINAL[r[1]] then -- what has ended does not change; but its commit, of a lost reply, may have begun the next turn
  id = redis.call('LINDEX', S .. ':mailbox', 0)
  if not id then return { 'nothing' } end
  r = redis.call('HMGET', turn_key(id), 'status', 'owner')
end
local t = turn_key(id)
if redis.call('HDEL', t, 'crash:' .. value) == 1 then
  redis.call('HINCRBY', t, 'crashes', -1)
  return { 'forgiven' }
end
local held = redis.call('GET', S .. ':lease')
if r[1] == 'running' and r[2] == value and (not held or held == value) then
  redis.call('DEL', S .. ':lease')
  redis.call('HSET', t, 'status', 'queued', 'owner', '')
  redis.call('HSET', S .. ':meta', 'wake', 0)
  reindex(now_ms())
  return { 'released' }
end
return { 'nothing' }
