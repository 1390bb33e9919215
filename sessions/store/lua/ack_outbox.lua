#!lua flags=allow-oom
-- Takes an effect out of the outbox that was applied in its own slot.
-- KEYS 1 session base   (writes :outbox list)
-- KEYS 2 partition base (writes :wakeups zset)
-- ARGV 1 the entry, as it was read
-- Returns ok
--!include clock
--!include session
S, P = KEYS[1], KEYS[2]
redis.call('LREM', S .. ':outbox', 1, ARGV[1])
reindex(now_ms())
return { 'ok' }
