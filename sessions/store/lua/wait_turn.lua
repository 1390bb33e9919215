#!lua flags=allow-oom
-- Makes a running turn wait: its pending calls become visible, the lease is given back, and the journal stays.
-- KEYS
--   S: base of the session (writes :lease string, :mailbox list, :waiting zset, :turn:<id> hash, :turn:<id>:journal hash,
--      :turn:<id>:events stream, :meta hash, :outbox list)
--   P: base of its partition (writes :wakeups zset, :asking~<list> zsets)
-- ARGV
--   turn
--   lease: its value
--   seq: number of the event
--   event: its data (JSON)
--   calls[key, ask]: the pending calls, and what each asks (JSON)
-- Returns
--   waiting: wake, queue, now_ms (wake 1: other turns can run meanwhile, or the outbox has something: publish a wake-up)
--   cancel (nothing was written: a client asked to cancel this turn)
--   lost (nothing was written: the lease is no longer ours)
--!include clock
--!include session
local t, meta, now = turn_key(turn), S .. ':meta', now_ms()
local r = redis.call('HMGET', t, 'status', 'owner', 'cancel', 'released', 'blocks', 'approval_ms', 'webhook')
local queue = redis.call('HGET', meta, 'queue') or ''
if r[4] == lease then return { 'waiting', '0', queue, now } end -- Retry after a lost reply.
if redis.call('GET', S .. ':lease') ~= lease or r[1] ~= 'running' or r[2] ~= lease then return { 'lost' } end
if r[3] then return { 'cancel' } end
local pending = 0
for i = 1, #calls, 2 do
  if redis.call('HEXISTS', t .. ':journal', 'answer:' .. calls[i]) == 0 then
    redis.call('HSET', t .. ':journal', 'ask:' .. calls[i], calls[i + 1])
    pending = pending + 1
  end
end
local eid = add_event(turn, string.match(lease, '^(%d+):'), seq, 'waiting', event)
redis.call('HSET', t, 'status', 'waiting', 'owner', '', 'released', lease, 'pending', pending, 'waited_from', now,
  'seq', seq, 'valid', eid)
redis.call('ZADD', S .. ':waiting', now + (tonumber(r[6] or '') or 86400000), turn)
list_asking(now)
redis.call('DEL', S .. ':lease')
if r[7] then redis.call('RPUSH', S .. ':outbox', cjson.encode({ kind = 'asks', turn = turn, at = tostring(now) })) end
local wake = r[7] and '1' or '0'
if r[5] == '0' then -- later turns need not wait for the answer
  redis.call('LREM', S .. ':mailbox', 1, turn)
  if redis.call('LLEN', S .. ':mailbox') > 0 then wake = '1' end
end
if wake == '1' then redis.call('HSET', meta, 'wake', now, 'wake_queue', queue) end
reindex(now)
notify(turn, false)
return { 'waiting', wake, queue, now }
