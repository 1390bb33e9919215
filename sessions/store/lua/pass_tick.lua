#!lua flags=allow-oom
-- Lets a schedule's ticks pass without a turn, because no worker was there at their time.
-- KEYS
--   S: base of the session (writes :schedules:state hash, :schedules:due zset; reads :meta hash)
--   P: base of its partition (writes :wakeups zset)
-- ARGV
--   schedule: its id
--   due_ms: the tick that the schedule is due for
--   next_ms: when it is due next, or ''
--   missed: how many ticks pass
-- Returns
--   noted
--   passed (nothing was written: the schedule is not due for this tick)
--!include clock
--!include session
--!include schedule
local state = schedule_state(schedule)
if not state or not is_due(schedule, due_ms) then return { 'passed' } end
state.missed_runs = state.missed_runs + missed
keep_schedule(schedule, state)
set_due(schedule, next_ms)
set_expiry(now_ms())
reindex(now_ms())
return { 'noted' }
