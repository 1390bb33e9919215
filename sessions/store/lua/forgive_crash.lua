#!lua flags=allow-oom
-- A worker reports that it stopped a turn because the store was unreachable until its lease had ended. That is no
-- crash of the turn, so it does not count towards max_attempts.
-- KEYS
--   S: base of the session (writes :turn:<id> hash, :meta hash, :lease string; reads :mailbox list)
--   P: base of its partition (writes :wakeups zset)
-- ARGV
--   turn
--   lease: value of the lease that ended; a renewal that arrived late may have taken it back
-- Returns
--   forgiven (the crash that was counted is taken back)
--   released (no other worker had noticed yet: the turn is queued again)
--   nothing (the turn has ended, or no crash was counted)
--!include clock
--!include session
local id = turn
local r = redis.call('HMGET', turn_key(id), 'status', 'owner')
-- A turn that has ended does not change. But its commit, whose reply was lost, may have begun the session's next turn.
if FINAL[r[1]] then
  id = redis.call('LINDEX', S .. ':mailbox', 0)
  if not id then return { 'nothing' } end
  r = redis.call('HMGET', turn_key(id), 'status', 'owner')
end
local t = turn_key(id)
if redis.call('HDEL', t, 'crash:' .. lease) == 1 then
  redis.call('HINCRBY', t, 'crashes', -1)
  return { 'forgiven' }
end
local held = redis.call('GET', S .. ':lease')
if r[1] == 'running' and r[2] == lease and (not held or held == lease) then
  redis.call('DEL', S .. ':lease')
  redis.call('HSET', t, 'status', 'queued', 'owner', '')
  redis.call('HSET', S .. ':meta', 'wake', 0)
  reindex(now_ms())
  return { 'released' }
end
return { 'nothing' }
