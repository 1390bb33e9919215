#!lua flags=allow-oom
-- Deletes a session with everything in it. A worker that runs one of its turns loses its lease and can write no more.
-- KEYS
--   S: base of the session (deletes every key of the session)
--   P: base of its partition (writes :wakeups zset, :dead zset, :lanes set, the indexes of sessions)
-- ARGV
--   user: id, or ''
--   unused_since: delete it only if it has no open turn and no active schedule, and was not used since this time (ms); or ''
-- Returns
--   deleted: keys, turns, open_turns, memories, files (how many of each; open_turns are among the turns)
--   other_owner (the session belongs to another user)
--   in_use (nothing was deleted: it has an open turn or an active schedule, or was used since)
--!include session
--!include forget
--!include rights
if not allowed(user, 'own') then return { 'other_owner' } end
if unused_since ~= '' then
  local m = redis.call('HMGET', S .. ':meta', 'open', 'used', 'created')
  local used = tonumber(m[2] or m[3] or '') or 0
  if redis.call('EXISTS', S .. ':schedules:due') == 1 then return { 'in_use' } end
  if (tonumber(m[1] or '') or 0) > 0 or used >= tonumber(unused_since) then return { 'in_use' } end
end
for _, viewer in ipairs(listed_for()) do unlist(viewer) end
local ids, removed, turns, open, memories = {}, 0, 0, 0, redis.call('HLEN', S .. ':memory')
for _, id in ipairs(redis.call('LRANGE', S .. ':mailbox', 0, -1)) do ids[id], open = true, open + 1 end
for _, name in ipairs({ ':waiting', ':later' }) do
  for _, id in ipairs(redis.call('ZRANGE', S .. name, 0, -1)) do
    if not ids[id] then ids[id], open = true, open + 1 end
  end
end
for _, id in ipairs(redis.call('ZRANGE', S .. ':turns', 0, -1)) do ids[id] = true end
for id in pairs(ids) do
  notify(id, true)
  removed = removed + forget_turn(id)
  turns = turns + 1
end
local files = redis.call('HKEYS', S .. ':files')
for _, id in ipairs(files) do removed = removed + redis.call('UNLINK', file_key(id)) end
for _, name in ipairs(SESSION_KEYS) do removed = removed + redis.call('UNLINK', S .. ':' .. name) end
removed = removed + redis.call('UNLINK', S .. ':mailbox', S .. ':lease', S .. ':expired', S .. ':outbox', S .. ':waiting', S .. ':later')
redis.call('ZREM', P .. ':wakeups', ref())
redis.call('SREM', P .. ':lanes', ref())
return { 'deleted', removed, turns, open, memories, #files }
