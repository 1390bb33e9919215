#!lua flags=allow-oom
-- Empties the history of a session, with its branches, and deletes the records of its ended turns. The session stays.
-- KEYS
--   S: base of the session (writes :meta hash, :turns zset, :op:<id> string, :outbox list, the hash :sources of the lane
--      ~transcript; deletes :history, :segments, :left and :branches lists, :adapters hash, :turn:<id> hash, :turn:<id>:events
--      stream, :turn:<id>:journal hash, :turn:<id>:inbox list, :turn:<id>:upload string, :idem:<key> hash; reads :mailbox list, :waiting and :later zsets)
--   P: base of its partition (writes :dead and :wakeups zsets, the indexes of sessions)
-- ARGV
--   user: id, or ''
--   operation: its id; a retry after a lost reply changes nothing
-- Returns
--   cleared
--   needed: by (nothing was deleted: this open turn has seen a turn of the history, or replaces turns)
--   other_owner (the session belongs to another user)
--!include clock
--!include session
--!include rights
--!include compaction
--!include branches
--!include forget
--!include transcript
local meta, done = S .. ':meta', S .. ':op:' .. operation
if redis.call('EXISTS', done) == 1 or redis.call('HEXISTS', meta, 'created') == 0 then return { 'cleared' } end
if not allowed(user, 'write') then return { 'other_owner' } end
local by = depends_on(0)
if by then return { 'needed', by } end
cut_transcript(0)
forget_history()
redis.call('UNLINK', S .. ':left', S .. ':branches', S .. ':adapters')
each_replacing('', function(id) redis.call('HSET', turn_key(id), 'replaces_gone', 'deleted') end)
for _, id in ipairs(redis.call('ZRANGE', S .. ':turns', 0, -1)) do
  if FINAL[redis.call('HGET', turn_key(id), 'status')] then
    forget_turn(id)
    redis.call('ZREM', S .. ':turns', id)
  end
end
redis.call('HSET', meta, 'messages', 0, 'turns', 0)
redis.call('HDEL', meta, 'window_at')
if redis.call('HEXISTS', meta, 'title_of') == 1 then redis.call('HDEL', meta, 'title', 'title_of') end
note_history_changed(0)
local now = now_ms()
note_use(now)
if redis.call('EXISTS', S .. ':outbox') == 1 then reindex(now) end
redis.call('SET', done, 1, 'PX', 60000)
return { 'cleared' }
