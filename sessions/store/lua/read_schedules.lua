#!lua flags=no-writes
-- Reads a session's schedules in one step.
-- KEYS
--   S: base of the session (reads :schedules hash, :schedules:state hash, :schedules:due zset, :turn:<id> hash)
-- ARGV
--   schedule: the id of one, or '' for all
-- Returns
--   schedules_found: now_ms, schedules[id, job, state, due_ms, last_status] (due_ms: '' if it is not due any more;
--      last_status: of the turn of its last tick, '' if there is none)
--!include clock
local reply = { 'schedules_found', now_ms() }
local ids = schedule ~= '' and { schedule } or redis.call('HKEYS', S .. ':schedules')
for _, id in ipairs(ids) do
  local job, raw = redis.call('HGET', S .. ':schedules', id), redis.call('HGET', S .. ':schedules:state', id)
  if job and raw then
    local last = cjson.decode(raw).last_turn
    local due = redis.call('ZSCORE', S .. ':schedules:due', id)
    reply[#reply + 1] = id
    reply[#reply + 1] = job
    reply[#reply + 1] = raw
    reply[#reply + 1] = due and string.format('%.0f', tonumber(due)) or ''
    reply[#reply + 1] = last and redis.call('HGET', S .. ':turn:' .. last, 'status') or ''
  end
end
return reply
