#!lua flags=allow-oom
-- Gives a running turn back unfinished, to be gone on with later or elsewhere. Never counts as a crash (R8).
-- KEYS 1 session base   (writes :lease string, :turn:<id> hash, :turn:<id>:events stream, :meta hash)
-- KEYS 2 partition base (writes :wakeups zset)
-- ARGV 1 turn id · 2 lease value · 3 retry | handover · 4 pause before it may run again (ms)
--      5 seq of the event · 6 type of the event · 7 its data (JSON)
-- Returns released, queue, now (ms) | cancelled (a client had asked to: it ended) | lost
--!include clock
--!include session
S, P = KEYS[1], KEYS[2]
local id, value, now = ARGV[1], ARGV[2], now_ms()
local t, meta = turn_key(id), S .. ':meta'
local r = redis.call('HMGET', t, 'status', 'owner', 'cancel', 'released')
local queue = redis.call('HGET', meta, 'queue') or ''
if r[4] == value then return { 'released', queue, now } end -- sent again after a lost reply
if r[1] == 'cancelled' and r[2] == value then return { 'cancelled' } end
if redis.call('GET', S .. ':lease') ~= value or r[1] ~= 'running' or r[2] ~= value then return { 'lost' } end
redis.call('DEL', S .. ':lease')
local token = string.match(value, '^(%d+):')
if r[3] then
  end_turn(id, 'cancelled', now, token, ARGV[5], { 'error', failure('TurnCancelled', 'cancelled by a client') })
  redis.call('HSET', meta, 'wake', 0)
  reindex(now)
  return { 'cancelled' }
end
redis.call('HSET', t, 'status', 'queued', 'owner', '', 'released', value, 'not_before', now + ARGV[4])
if ARGV[3] == 'retry' then redis.call('HINCRBY', t, 'retries', 1) end
add_event(id, token, ARGV[5], ARGV[6], ARGV[7])
-- With a pause no wake-up is published now: the rescuer does it when the pause is over.
if tonumber(ARGV[4]) > 0 then
  redis.call('HSET', meta, 'wake', 0)
else
  redis.call('HSET', meta, 'wake', now, 'wake_queue', queue)
end
reindex(now)
ring(id, false)
return { 'released', queue, now }
