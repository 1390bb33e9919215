#!lua flags=allow-oom
-- Removes a schedule. Turns that its ticks became stay.
-- KEYS
--   S: base of the session (writes :schedules hash, :schedules:state hash, :schedules:due zset, :meta hash;
--      reads :shares hash)
--   P: base of its partition (writes :wakeups zset, the indexes of sessions)
-- ARGV
--   schedule: its id
--   user: id, or ''
-- Returns
--   removed: count (0 if there was none)
--   other_owner (the session belongs to another user)
--!include clock
--!include session
--!include rights
local now = now_ms()
if not allowed(user, 'write') then return { 'other_owner' } end
local count = redis.call('HDEL', S .. ':schedules', schedule)
redis.call('HDEL', S .. ':schedules:state', schedule)
redis.call('ZREM', S .. ':schedules:due', schedule)
if count > 0 then note_use(now) end
reindex(now)
return { 'removed', count }
