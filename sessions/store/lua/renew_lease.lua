#!lua flags=allow-oom
-- Renews a lease. One that ran out is taken back, if nobody else has had the session since: the store may have
-- refused writes for longer than a lease lasts, and then no worker was lost.
-- KEYS 1 session base   (writes :lease string; reads :turn:<id> hash)
-- KEYS 2 partition base (writes :wakeups zset)
-- ARGV 1 lease value · 2 lease (ms) · 3 turn id
-- Returns ok | cancel (a client asked to cancel this turn) | lost
--!include clock
--!include session
S, P = KEYS[1], KEYS[2]
local held = redis.call('GET', S .. ':lease')
local r = redis.call('HMGET', turn_key(ARGV[3]), 'owner', 'status', 'cancel')
-- Whoever takes a session gives its running turn another owner. An owner that is still ours means that nobody did.
local free = not held and r[1] == ARGV[1] and r[2] == 'running'
if held ~= ARGV[1] and not free then return { 'lost' } end
redis.call('SET', S .. ':lease', ARGV[1], 'PX', ARGV[2])
reindex(now_ms())
if r[3] then return { 'cancel' } end
return { 'ok' }
