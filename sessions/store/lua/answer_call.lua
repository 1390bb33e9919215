#!lua
-- Answers a call that a turn waits for. The first answer counts; the last missing answer lets the turn resume.
-- KEYS
--   S: base of the session (writes :turn:<id>:journal hash, :turn:<id> hash, :turn:<id>:events stream, :mailbox list,
--      :waiting zset, :meta hash; reads :lease string)
--   P: base of its partition (writes :wakeups zset, :asking~<list> zsets)
-- ARGV
--   turn
--   call: key of the call
--   answer: JSON
--   event: data of the event (JSON)
-- Returns
--   answered: wake, queue, now_ms (wake 1: publish a wake-up)
--   same (the call already has this very answer)
--   other: answer (the call already has another answer, which counts)
--   unknown (the turn does not wait for this call)
--   ended: status
--   missing (there is no such turn)
--!include clock
--!include session
local t, meta, now = turn_key(turn), S .. ':meta', now_ms()
local journal, field = t .. ':journal', 'answer:' .. call
local r = redis.call('HMGET', t, 'status', 'waited_from', 'deadline')
if not r[1] then return { 'missing' } end
if FINAL[r[1]] then return { 'ended', r[1] } end
local first = redis.call('HGET', journal, field)
if first then
  if first == answer then return { 'same' } end
  return { 'other', first }
end
if r[1] ~= 'waiting' or redis.call('HEXISTS', journal, 'ask:' .. call) == 0 then return { 'unknown' } end

redis.call('HSET', journal, field, answer)
-- The event follows the turn's last event, under the same fencing token. A new token would be wrong: the turn may resume
-- under a lease that is older, and event ids only grow.
local newest = redis.call('XREVRANGE', t .. ':events', '+', '-', 'COUNT', 1)[1][1]
local token, seq = string.match(newest, '^(%d+)-(%d+)$')
local eid = add_event(turn, token, seq + 1, 'answered', event)
redis.call('HSET', t, 'valid', eid)
notify(turn, false)
local queue, wake = redis.call('HGET', meta, 'queue') or '', '0'
if redis.call('HINCRBY', t, 'pending', -1) > 0 then return { 'answered', wake, queue, now } end

-- The time spent waiting does not count towards the turn's deadline.
redis.call('HSET', t, 'status', 'queued', 'answered', 1, 'not_before', 0, 'deadline', r[3] + (now - r[2]))
ends_wait(turn)
local head = redis.call('LINDEX', S .. ':mailbox', 0)
-- A turn that left the mailbox while it waited returns right after the turn that has begun, before those that have not.
if redis.call('LPOS', S .. ':mailbox', turn) == false then
  if head and redis.call('HEXISTS', turn_key(head) .. ':journal', 'inputs') == 1 then
    redis.call('LINSERT', S .. ':mailbox', 'AFTER', head, turn)
  else
    redis.call('LPUSH', S .. ':mailbox', turn)
  end
end
if redis.call('LINDEX', S .. ':mailbox', 0) == turn and redis.call('EXISTS', S .. ':lease') == 0 then
  wake = '1'
  redis.call('HSET', meta, 'wake', now, 'wake_queue', queue)
end
reindex(now)
return { 'answered', wake, queue, now }
