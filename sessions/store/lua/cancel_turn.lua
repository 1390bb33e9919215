#!lua flags=allow-oom
-- Cancels a turn: at once if no worker runs it, else by a mark that overrules any later commit.
-- KEYS
--   S: base of the session (writes :mailbox list, :waiting zset, :later zset, :outbox list, :turn:<id> hash,
--      :turn:<id>:events stream, :turns zset, :meta hash)
--   P: base of its partition (writes :wakeups zset, :fence counter)
-- ARGV
--   turn
-- Returns
--   cancelled
--   marked: worker (the worker that runs it; '' if none does: then a worker will record what the turn had finished)
--   ended: status
--   missing (there is no such turn)
--!include clock
--!include session
local t, meta, now = turn_key(turn), S .. ':meta', now_ms()
local r = redis.call('HMGET', t, 'status', 'owner', 'worker')
if not r[1] then return { 'missing' } end
if FINAL[r[1]] then return { 'ended', r[1] } end
if r[1] == 'running' and redis.call('GET', S .. ':lease') == r[2] then
  redis.call('HSET', t, 'cancel', now)
  return { 'marked', r[3] }
end
-- A worker first cancels the turn's tasks, then ends the turn. A turn that waits for people has no open tasks.
if has_tasks(turn) and not redis.call('ZSCORE', S .. ':waiting', turn) then
  redis.call('HSET', t, 'cancel', now, 'not_before', now)
  redis.call('HSET', meta, 'wake', 0)
  reindex(now)
  return { 'marked', r[3] }
end
if begun(turn) then
  redis.call('HSET', t, 'cancel', now)
  hand_in(turn, now)
  reindex(now)
  return { 'marked', '' }
end
end_turn(turn, 'cancelled', now, redis.call('INCR', P .. ':fence'), 1,
  { 'cancel', now, 'error', failure('TurnCancelled', 'cancelled by a client') })
-- The turns after it may have no wake-up of their own: make the rescuer look at once.
if redis.call('EXISTS', S .. ':lease') == 0 then redis.call('HSET', meta, 'wake', 0) end
reindex(now)
return { 'cancelled' }
