#!lua flags=allow-oom
-- Cancels a turn: at once when no worker runs it, else by a mark that wins over any later commit (R5).
-- KEYS 1 session base   (writes :mailbox list, :waiting zset, :later zset, :outbox list, :turn:<id> hash, :turn:<id>:events stream,
--                        :turns zset, :meta hash)
-- KEYS 2 partition base (writes :wakeups zset, :fence counter)
-- ARGV 1 turn id
-- Returns cancelled | marked, worker's name ('' where none runs it: one will write down what it finished) | ended, status
--      | missing
--!include clock
--!include session
S, P = KEYS[1], KEYS[2]
local id, now = ARGV[1], now_ms()
local r = redis.call('HMGET', turn_key(id), 'status', 'owner', 'worker')
if not r[1] then return { 'missing' } end
if FINAL[r[1]] then return { 'ended', r[1] } end
if r[1] == 'running' and redis.call('GET', S .. ':lease') == r[2] then
  redis.call('HSET', turn_key(id), 'cancel', now)
  return { 'marked', r[3] }
end
-- A worker cancels its tasks, then ends it. One that waits for people has none that are open.
if has_tasks(id) and not redis.call('ZSCORE', S .. ':waiting', id) then
  redis.call('HSET', turn_key(id), 'cancel', now, 'not_before', now)
  redis.call('HSET', S .. ':meta', 'wake', 0)
  reindex(now)
  return { 'marked', r[3] }
end
if begun(id) then
  redis.call('HSET', turn_key(id), 'cancel', now)
  hand_in(id, now)
  reindex(now)
  return { 'marked', '' }
end
end_turn(id, 'cancelled', now, redis.call('INCR', P .. ':fence'), 1,
  { 'cancel', now, 'error', failure('TurnCancelled', 'cancelled by a client') })
-- The turns behind it may have no wake-up on its way; the rescuer looks at once.
if redis.call('EXISTS', S .. ':lease') == 0 then redis.call('HSET', S .. ':meta', 'wake', 0) end
reindex(now)
return { 'cancelled' }
