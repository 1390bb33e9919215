#!lua flags=allow-oom
-- Gives a running turn back unfinished, to be gone on with later or elsewhere. Never counts as a crash (R8).
-- KEYS 1 session base   (writes :lease string, :mailbox list, :later zset, :outbox list, :turn:<id> hash,
--                        :turn:<id>:events stream, :meta hash)
-- KEYS 2 partition base (writes :wakeups zset)
-- ARGV 1 turn id · 2 lease value · 3 retry | later (a retry that leaves the line meanwhile: those behind it go on)
--      | handover | tasks (it waits for turns of others)
--      4 pause before it may run again (ms) · 5 seq of the event · 6 type of the event, or '' · 7 its data (JSON)
-- Returns released, queue, now (ms), pause before the session goes on (ms) | cancelled (a client had asked to: it ended) | lost
--!include clock
--!include session
S, P = KEYS[1], KEYS[2]
local id, value, now = ARGV[1], ARGV[2], now_ms()
local t, meta = turn_key(id), S .. ':meta'
local r = redis.call('HMGET', t, 'status', 'owner', 'cancel', 'released', 'nudged', 'keep')
local queue = redis.call('HGET', meta, 'queue') or ''
if r[4] == value then return { 'released', queue, now, ARGV[4] } end -- sent again after a lost reply
if r[1] == 'cancelled' and r[2] == value then return { 'cancelled' } end
if redis.call('GET', S .. ':lease') ~= value or r[1] ~= 'running' or r[2] ~= value then return { 'lost' } end
redis.call('DEL', S .. ':lease')
local token = string.match(value, '^(%d+):')
local kept = r[3] and r[6] ~= '0' -- cancelled, not rolled back: the next worker writes down what it finished
if r[3] and not kept and not has_tasks(id) then
  end_turn(id, 'cancelled', now, token, ARGV[5], { 'error', failure('TurnCancelled', 'cancelled by a client') })
  redis.call('HSET', meta, 'wake', 0)
  reindex(now)
  return { 'cancelled' }
end
local pause, status = kept and 0 or tonumber(ARGV[4]), 'queued'
if ARGV[3] == 'tasks' then
  status = 'waiting'
  if r[3] or r[5] then pause = 0 end -- cancelled, or a task ended, since it looked: it looks again at once
  redis.call('HDEL', t, 'nudged')
  redis.call('HSET', t, 'resumed', 1)
end
redis.call('HSET', t, 'status', status, 'owner', '', 'released', value, 'not_before', now + pause)
if ARGV[3] == 'retry' or ARGV[3] == 'later' then redis.call('HINCRBY', t, 'retries', 1) end
if ARGV[6] ~= '' then add_event(id, token, ARGV[5], ARGV[6], ARGV[7]) end
if ARGV[3] == 'later' and pause > 0 then
  redis.call('LREM', S .. ':mailbox', 1, id)
  redis.call('ZADD', S .. ':later', now + pause, id)
  if redis.call('LLEN', S .. ':mailbox') > 0 then pause = 0 end
end
-- With a pause no wake-up is published now: the rescuer does it when the pause is over.
if pause > 0 then
  redis.call('HSET', meta, 'wake', 0)
else
  redis.call('HSET', meta, 'wake', now, 'wake_queue', queue)
end
reindex(now)
ring(id, false)
return { 'released', queue, now, pause }
