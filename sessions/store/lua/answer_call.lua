#!lua
-- Answers a call that a turn waits for; the first answer counts. The last missing one lets the turn go on.
-- KEYS 1 session base   (writes :turn:<id>:journal hash, :turn:<id> hash, :turn:<id>:events stream, :mailbox list,
--                        :waiting zset, :meta hash; reads :lease string)
-- KEYS 2 partition base (writes :wakeups zset)
-- ARGV 1 turn id · 2 key of the call · 3 answer (JSON) · 4 data of the event (JSON)
-- Returns answered, wake (1: publish a wake-up), queue, now (ms) | same (it was answered like this already)
--      | other, the answer that counts | unknown | ended, status | missing
--!include clock
--!include session
S, P = KEYS[1], KEYS[2]
local id, now = ARGV[1], now_ms()
local t, meta = turn_key(id), S .. ':meta'
local journal, field = t .. ':journal', 'answer:' .. ARGV[2]
local r = redis.call('HMGET', t, 'status', 'waited_from', 'deadline')
if not r[1] then return { 'missing' } end
if FINAL[r[1]] then return { 'ended', r[1] } end
local first = redis.call('HGET', journal, field)
if first then
  if first == ARGV[3] then return { 'same' } end
  return { 'other', first }
end
if r[1] ~= 'waiting' or redis.call('HEXISTS', journal, 'ask:' .. ARGV[2]) == 0 then return { 'unknown' } end

redis.call('HSET', journal, field, ARGV[3])
-- Behind its last event and under that one's token: it may go on under a lease that is older than any new token (R11).
local newest = redis.call('XREVRANGE', t .. ':events', '+', '-', 'COUNT', 1)[1][1]
local token, seq = string.match(newest, '^(%d+)-(%d+)$')
local eid = add_event(id, token, seq + 1, 'answered', ARGV[4])
redis.call('HSET', t, 'valid', eid)
ring(id, false)
local queue, wake = redis.call('HGET', meta, 'queue') or '', '0'
if redis.call('HINCRBY', t, 'pending', -1) > 0 then return { 'answered', wake, queue, now } end

-- The time of waiting does not count towards the turn's deadline.
redis.call('HSET', t, 'status', 'queued', 'answered', 1, 'not_before', 0, 'deadline', r[3] + (now - r[2]))
redis.call('ZREM', S .. ':waiting', id)
local head = redis.call('LINDEX', S .. ':mailbox', 0)
if redis.call('LPOS', S .. ':mailbox', id) == false then -- it had left the line: back right behind what runs (R5)
  if head and redis.call('HEXISTS', turn_key(head) .. ':journal', 'inputs') == 1 then
    redis.call('LINSERT', S .. ':mailbox', 'AFTER', head, id)
  else
    redis.call('LPUSH', S .. ':mailbox', id)
  end
end
if redis.call('LINDEX', S .. ':mailbox', 0) == id and redis.call('EXISTS', S .. ':lease') == 0 then
  wake = '1'
  redis.call('HSET', meta, 'wake', now, 'wake_queue', queue)
end
reindex(now)
return { 'answered', wake, queue, now }
