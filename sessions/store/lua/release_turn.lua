#!lua flags=allow-oom
-- Gives a running turn back unfinished, to be resumed later or by another worker. This never counts as a crash.
-- KEYS
--   S: base of the session (writes :lease string, :mailbox list, :later zset, :outbox list, :turn:<id> hash,
--      :turn:<id>:events stream, :meta hash)
--   P: base of its partition (writes :wakeups zset)
-- ARGV
--   turn
--   lease: its value
--   why: retry | later (a retry that leaves the mailbox meanwhile, so that the turns after it can run) | handover
--      | limited (it waits until its model may be called, which is no retry) | tasks (it waits for turns of other sessions)
--   pause_ms: time before it may run again
--   seq: number of the event
--   event: its type, or '' for no event
--   data: of the event (JSON)
-- Returns
--   released: queue, now_ms, pause_ms (time before the session goes on)
--   cancelled (a client had asked to cancel it, so it ended)
--   lost (nothing was written: the lease is no longer ours)
--!include clock
--!include session
local t, meta, now = turn_key(turn), S .. ':meta', now_ms()
local r = redis.call('HMGET', t, 'status', 'owner', 'cancel', 'released', 'nudged', 'keep')
local queue = redis.call('HGET', meta, 'queue') or ''
if r[4] == lease then return { 'released', queue, now, pause_ms } end -- Retry after a lost reply.
if r[1] == 'cancelled' and r[2] == lease then return { 'cancelled' } end
if redis.call('GET', S .. ':lease') ~= lease or r[1] ~= 'running' or r[2] ~= lease then return { 'lost' } end
redis.call('DEL', S .. ':lease')
local token = string.match(lease, '^(%d+):')
local kept = r[3] and r[6] ~= '0' -- cancelled, but not rolled back: the next worker records what it finished
if r[3] and not kept and not has_tasks(turn) then
  end_turn(turn, 'cancelled', now, token, seq, { 'error', failure('TurnCancelled', 'cancelled by a client') })
  redis.call('HSET', meta, 'wake', 0)
  reindex(now)
  return { 'cancelled' }
end
local pause, status = kept and 0 or tonumber(pause_ms), 'queued'
if why == 'tasks' then
  status = 'waiting'
  if r[3] or r[5] then pause = 0 end -- it was cancelled, or a task ended, since it looked: it looks again at once
  redis.call('HDEL', t, 'nudged')
  redis.call('HSET', t, 'resumed', 1)
end
redis.call('HSET', t, 'status', status, 'owner', '', 'released', lease, 'not_before', now + pause)
if why == 'retry' or why == 'later' then redis.call('HINCRBY', t, 'retries', 1) end
if event ~= '' then add_event(turn, token, seq, event, data) end
if why == 'later' and pause > 0 then
  redis.call('LREM', S .. ':mailbox', 1, turn)
  redis.call('ZADD', S .. ':later', now + pause, turn)
  if redis.call('LLEN', S .. ':mailbox') > 0 then pause = 0 end
end
-- During a pause no wake-up is published: the rescuer publishes one when the pause is over.
if pause > 0 then
  redis.call('HSET', meta, 'wake', 0)
else
  redis.call('HSET', meta, 'wake', now, 'wake_queue', queue)
end
reindex(now)
notify(turn, false)
return { 'released', queue, now, pause }
