#!lua flags=allow-oom
-- Puts a running turn to waiting: its pending calls become visible, the lease is given back, the journal stays.
-- KEYS 1 session base   (writes :lease string, :mailbox list, :waiting zset, :turn:<id> hash, :turn:<id>:journal hash,
--                        :turn:<id>:events stream, :meta hash)
-- KEYS 2 partition base (writes :wakeups zset)
-- ARGV 1 turn id · 2 lease value · 3 seq of the event · 4 its data (JSON) · 5... key, question (JSON) of each call
-- Returns waiting, wake (1: other turns wait, publish a wake-up), queue, now (ms) | cancel (nothing written: a client
--      asked to cancel this turn) | lost (nothing written)
--!include clock
--!include session
S, P = KEYS[1], KEYS[2]
local id, value, now = ARGV[1], ARGV[2], now_ms()
local t, meta = turn_key(id), S .. ':meta'
local r = redis.call('HMGET', t, 'status', 'owner', 'cancel', 'released', 'blocks', 'approval_ms')
local queue = redis.call('HGET', meta, 'queue') or ''
if r[4] == value then return { 'waiting', '0', queue, now } end -- sent again after a lost reply
if redis.call('GET', S .. ':lease') ~= value or r[1] ~= 'running' or r[2] ~= value then return { 'lost' } end
if r[3] then return { 'cancel' } end
local pending = 0
for i = 5, #ARGV, 2 do
  if redis.call('HEXISTS', t .. ':journal', 'answer:' .. ARGV[i]) == 0 then
    redis.call('HSET', t .. ':journal', 'ask:' .. ARGV[i], ARGV[i + 1])
    pending = pending + 1
  end
end
local eid = add_event(id, string.match(value, '^(%d+):'), ARGV[3], 'waiting', ARGV[4])
redis.call('HSET', t, 'status', 'waiting', 'owner', '', 'released', value, 'pending', pending, 'waited_from', now,
  'seq', ARGV[3], 'valid', eid)
redis.call('ZADD', S .. ':waiting', now + (tonumber(r[6] or '') or 86400000), id)
redis.call('DEL', S .. ':lease')
local wake = '0'
if r[5] == '0' then -- later turns need not wait for the answer
  redis.call('LREM', S .. ':mailbox', 1, id)
  if redis.call('LLEN', S .. ':mailbox') > 0 then
    wake = '1'
    redis.call('HSET', meta, 'wake', now, 'wake_queue', queue)
  end
end
reindex(now)
ring(id, false)
return { 'waiting', wake, queue, now }
