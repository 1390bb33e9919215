#!lua flags=allow-oom
-- Has a run that waits for its tasks looked at now, because one of them ended, or a client cancelled the run. A nudge
-- that gets lost costs a pause and no more.
-- KEYS 1 session base   (writes :turn:<id> hash, :meta hash)
-- KEYS 2 partition base (writes :wakeups zset)
-- ARGV 1 turn id
-- Returns woken, queue, now (ms): publish a wake-up | noted (it runs now, and looks again before it waits) | nothing
--!include clock
--!include session
S, P = KEYS[1], KEYS[2]
local t, now = turn_key(ARGV[1]), now_ms()
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
