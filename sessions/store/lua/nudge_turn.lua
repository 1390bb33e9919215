#!lua flags=allow-oom
-- Makes a run that waits for its tasks look at them now, because one of them ended or a client cancelled the run.
-- A lost nudge only costs a pause: the run looks again after it.
-- KEYS
--   S: base of the session (writes :turn:<id> hash, :meta hash)
--   P: base of its partition (writes :wakeups zset)
-- ARGV
--   turn
-- Returns
--   woken: queue, now_ms (publish a wake-up)
--   noted (it runs now, and looks again before it waits)
--   nothing (it does not wait for tasks)
--!include clock
--!include session
local t, now = turn_key(turn), now_ms()
local r = redis.call('HMGET', t, 'status', 'not_before', 'cancel')
if r[1] == 'running' then
  redis.call('HSET', t, 'nudged', 1)
  return { 'noted' }
end
local due = tonumber(r[2] or '') or 0
if r[1] ~= 'waiting' or due == 0 or (due <= now and not r[3]) then return { 'nothing' } end
local queue = redis.call('HGET', S .. ':meta', 'queue')
redis.call('HSET', t, 'not_before', now)
redis.call('HSET', S .. ':meta', 'wake', now, 'wake_queue', queue)
reindex(now)
return { 'woken', queue, now }
