#!lua flags=allow-oom
-- Renews a lease that is still ours.
-- KEYS 1 session base   (writes :lease string; reads :turn:<id> hash)
-- KEYS 2 partition base (writes :wakeups zset)
-- ARGV 1 lease value · 2 lease (ms) · 3 turn id
-- Returns ok | cancel (a client asked to cancel this turn) | lost
--!include clock
--!include session
S, P = KEYS[1], KEYS[2]
if redis.call('GET', S .. ':lease') ~= ARGV[1] then return { 'lost' } end
redis.call('PEXPIRE', S .. ':lease', ARGV[2])
reindex(now_ms())
if redis.call('HGET', turn_key(ARGV[3]), 'cancel') then return { 'cancel' } end
return { 'ok' }
