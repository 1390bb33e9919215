#!lua
-- Creates a schedule, or changes one.
-- At maxmemory the server refuses this script (no allow-oom), on purpose: it makes the store grow.
-- KEYS
--   S: base of the session (writes :schedules hash, :schedules:state hash, :schedules:due zset, :meta hash;
--      reads :shares hash)
--   P: base of its partition (writes :wakeups zset, the indexes of sessions)
-- ARGV
--   operation: its id; a retry after a lost reply changes nothing and gets the same reply
--   schedule: its id
--   revision: the one that was read, to change it; '' to create it
--   user: id, or ''
--   job: what is sent at each tick; no script reads it
--   rules: JSON object; its fields replace those of the schedule's state
--   next_ms: when it is due next, '' for never, or keep
--   most: how many schedules there may be
--   queue: Celery queue of the session, if this creates the session
--   session_ttl_ms: '' leaves the session's ttl as it is
-- Returns
--   put: revision
--   exists (to create it: there is a schedule of this id)
--   changed (nothing was written: it was changed since it was read; read it again)
--   missing (to change it: there is none)
--   full: count (of schedules that there are)
--   other_owner (the session belongs to another user)
--!include clock
--!include session
--!include rights
--!include schedule
local now, meta, state = now_ms(), S .. ':meta', schedule_state(schedule)
if state and state.operation == operation then return { 'put', state.revision } end -- Retry after a lost reply.
if not allowed(user, 'write') then return { 'other_owner' } end
if revision == '' then
  if state then return { 'exists' } end
  local count = redis.call('HLEN', S .. ':schedules')
  if count >= tonumber(most) then return { 'full', count } end
  state = { created = now, made_by = operation, revision = 0, runs = 0, missed_runs = 0, skipped_runs = 0 }
elseif not state then
  return { 'missing' }
elseif state.revision ~= tonumber(revision) then
  return { 'changed' }
end
for name, value in pairs(cjson.decode(rules)) do state[name] = value end
state.revision, state.operation = state.revision + 1, operation
redis.call('HSETNX', meta, 'created', now)
redis.call('HSETNX', meta, 'queue', queue)
if user ~= '' then redis.call('HSETNX', meta, 'owner', user) end
set_ttl(session_ttl_ms)
redis.call('HSET', S .. ':schedules', schedule, job)
keep_schedule(schedule, state)
if next_ms ~= 'keep' then set_due(schedule, next_ms) end
if redis.call('EXISTS', S .. ':schedules:due') == 1 then keep_all() end
note_use(now)
reindex(now)
return { 'put', state.revision }
