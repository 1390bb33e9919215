#!lua flags=allow-oom
-- Renews a lease. A lease that ran out is taken back if no other worker has had the session since: the store may have
-- refused writes for longer than a lease lasts, although no worker died.
-- KEYS
--   S: base of the session (writes :lease string, :turn:<id> hash)
--   P: base of its partition (writes :wakeups zset)
-- ARGV
--   lease: its value
--   lease_ms: how long a lease lasts
--   turn
-- Returns
--   ok
--   cancel (renewed, and a client asked to cancel this turn, or its reader has left and it was to be cancelled then)
--   lost (nothing was written: the lease is no longer ours)
--!include clock
--!include session
local held = redis.call('GET', S .. ':lease')
local r = redis.call('HMGET', turn_key(turn), 'owner', 'status', 'cancel', 'attended')
-- A worker that takes a session gives its running turn a new owner. While the owner is still our lease, none has.
local free = not held and r[1] == lease and r[2] == 'running'
if held ~= lease and not free then return { 'lost' } end
redis.call('SET', S .. ':lease', lease, 'PX', lease_ms)
local now = now_ms()
reindex(now)
if r[3] or abandoned(turn, r[4], now) then return { 'cancel' } end
return { 'ok' }
