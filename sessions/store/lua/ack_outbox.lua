#!lua flags=allow-oom
-- Removes an entry from the outbox after it was applied in its own slot.
-- KEYS
--   S: base of the session (writes :outbox list)
--   P: base of its partition (writes :wakeups zset)
-- ARGV
--   entry: as it was read
-- Returns
--   removed
--!include clock
--!include session
redis.call('LREM', S .. ':outbox', 1, entry)
reindex(now_ms())
return { 'removed' }
