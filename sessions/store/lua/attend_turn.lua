#!lua flags=allow-oom
-- Records that the reader is there whose absence cancels the turn. Once this was called, somebody must call it again before
-- its time is over: the worker that runs the turn, or the next one that takes it, cancels it otherwise.
-- KEYS
--   S: base of the session (writes :turn:<id> hash)
--   P: base of its partition
-- ARGV
--   turn
--   for_ms: how long the reader is believed to be there
-- Returns
--   attending: status
--   missing (there is no such turn)
--!include clock
--!include session
local t = turn_key(turn)
local status = redis.call('HGET', t, 'status')
if not status then return { 'missing' } end
if not FINAL[status] then redis.call('HSET', t, 'attended', now_ms() + for_ms) end
return { 'attending', status }
