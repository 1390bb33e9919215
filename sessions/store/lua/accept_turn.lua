#!lua
-- Accepts a turn: from here on it reaches exactly one final status.
-- At maxmemory the server refuses this script (no allow-oom), on purpose: new work is what makes the store grow.
-- KEYS
--   S: base of the session (writes :meta hash, :mailbox list, :turn:<id> hash, :turns zset, :agents hash,
--      :idem:<key> hash, :waiting zset, :later zset, :turn:<id>:inbox list, :op:<id> string, :outbox list, :files hash,
--      :schedules:state hash, :schedules:due zset; reads :lease, :turn:<id>:journal, :file:<id> hash)
--   P: base of its partition (writes :wakeups zset, :fence counter, the indexes of sessions)
-- ARGV
--   turn: id of the new turn
--   request: JSON
--   digest: of the request; a repeat under the same idempotency key must have the same digest
--   idempotency: hash of the idempotency key, or ''
--   user: id of the user that the session belongs to, if this turn creates it, or ''
--   sender: id of the user who sends the message, or ''
--   timeout_ms: time to the deadline
--   not_before: '' to begin when its turn comes; else not before this time (ms), or +ms from now. The deadline counts from
--      then, and until then the turn is outside the mailbox
--   mailbox_limit: most turns of the session that may be open
--   queue: Celery queue of the session, if this turn creates the session
--   watcher: nonce of the client to notify, or ''
--   watch: readers (notified of every event) | waiters (notified of the end)
--   result_ttl_ms: how long the turn's record is kept after its end
--   idempotency_ttl_ms: how long its idempotency key is kept after its end
--   max_attempts
--   session_ttl_ms: '' leaves the session's ttl as it is, 0 removes it
--   agent: name of the agent
--   agent_config: JSON, or '' for the configuration that the session has under this name
--   policy: enqueue | reject | interrupt | rollback | steer
--   waiting_blocks: 1 if later turns wait while this turn waits for an answer, else 0
--   approval_ms: longest wait for an answer
--   message: text of the message, for policy steer
--   parts: of a message with files (JSON), for policy steer, or ''
--   webhook: URL to notify when the turn ends, or ''
--   title: of the session if it has none, its bytes; or ''
--   hidden: 1 if no list shows the session, else 0
--   searchable: of the session's transcript: 1 or 0; '' leaves it as it is; default: 1 if nobody has decided yet
--   compact: auto or off, whether the turns before the window are summarised; '' leaves it as it is; default: auto if nobody has
--      decided yet
--   joins: with an encrypted request, whose messages may join this turn: agent:<name> | none; else ''
--   metadata: JSON, or ''
--   refused: the limit of the tenant or user that is reached (admit_turn): minute | flight | open | sessions; or ''
--   ask_for_session: 1 if the turn may not create the session before the limit of sessions was looked at, else 0
--   files[id]: of the message
--   replaces[replaced, at, last, version]: the turn whose place it takes, and its position in this version of the history;
--      last 1: only if no other turn has been committed after it. '' if the history has no such turn; none if it takes no
--      place
--   tick[schedule, due_ms, at_ms, next_ms, missed, overlap]: of a schedule, if the turn is one: the tick that the schedule
--      is due for ('' if a client triggers it), the tick that the turn is (the newest of those that passed), when the
--      schedule is due next ('' for never), how many ticks before it were missed, and what to do if the turn of the
--      previous tick is still open (skip | queue)
-- Returns
--   accepted: turn, wake, now_ms, queue, worker, marked (wake 1: publish a wake-up; worker: notify this worker that the
--      turn `marked` is cancelled, '' for none)
--   steered: turn (the running turn that the message joined)
--   open: count (policy reject, and this many turns are open, not counting those that begin later)
--   duplicate: turn (the turn that was accepted under this idempotency key)
--   conflict: turn (as duplicate, but the digest differs)
--   taken: turn (as duplicate, but another user used the key)
--   other_owner (the session belongs to another user)
--   no_file: id (the session does not have this file)
--   passed (nothing was written: the schedule is not due for this tick, or there is no such schedule)
--   skipped: why (no turn was accepted for this tick: overlap, the previous one's turn is open | full, the mailbox is)
--   full: count (of the turns that are open, or of the messages that wait to join)
--   limited (the limit is reached; nothing was written)
--   new_session (nothing was written: the turn would create the session)
--   moved (the history has changed, so the turn to replace may be elsewhere: look it up again)
--   nothing_to_replace (the history has no such turn)
--!include clock
--!include session
--!include rights
--!include line
--!include files
--!include schedule
--!include transcript
--!include compaction

local tick_of, due_ms, at_ms, next_ms, missed, overlap = unpack(tick)
local by_clock = tick_of and due_ms ~= ''

-- Records what became of the tick, and when the schedule is due next. Another worker that acts on the same tick finds that
-- the schedule is not due for it any more.
local function end_tick(state)
  if by_clock then
    state.missed_runs = state.missed_runs + missed
    set_due(tick_of, next_ms)
  end
  keep_schedule(tick_of, state)
end

local function skip_tick(state, why, now)
  state.skipped_runs, state.last_skipped, state.last_skip_reason = state.skipped_runs + 1, tonumber(at_ms), why
  end_tick(state)
  set_expiry(now) -- it may have been the last tick
  reindex(now)
  return { 'skipped', why }
end

local t, meta, now = turn_key(turn), S .. ':meta', now_ms()
if redis.call('EXISTS', t) == 1 then -- Retry after a lost reply: this turn was accepted already.
  if by_clock and is_due(tick_of, due_ms) then -- The clock was set back, and the schedule changed: the tick had its turn.
    set_due(tick_of, next_ms)
    reindex(now)
  end
  local m = redis.call('HMGET', meta, 'wake', 'queue')
  return { 'accepted', turn, '1', m[1] or now, m[2] or queue, '', '' }
end
-- Retry after a lost reply: this message already joined that turn.
local joined = redis.call('GET', S .. ':op:' .. turn)
if joined then return { 'steered', joined } end
local owner = redis.call('HGET', meta, 'owner')
if not allowed(sender, 'write') then return { 'other_owner' } end
local speaker = sender ~= '' and sender or owner or '' -- whose message it is: without a user, the owner's
if idempotency ~= '' then
  local first = redis.call('HMGET', S .. ':idem:' .. idempotency, 'turn', 'digest', 'sender')
  -- The key may outlive the session it was used in. For a later session of the same id, perhaps of another user, it does
  -- not count.
  local accepted = first[1] and tonumber(redis.call('HGET', turn_key(first[1]), 'accepted') or '')
  local created = tonumber(redis.call('HGET', meta, 'created') or '')
  if accepted and created and accepted >= created then
    -- Users of a shared session do not get the turns of one another, even if both number their requests.
    if sender ~= '' and (first[3] or '') ~= '' and first[3] ~= sender then return { 'taken', first[1] } end
    return { first[2] == digest and 'duplicate' or 'conflict', first[1] }
  end
end
for _, id in ipairs(files) do
  if not has_file(id) then return { 'no_file', id } end
end
local schedule = tick_of and schedule_state(tick_of)
if tick_of and (not schedule or by_clock and not is_due(tick_of, due_ms)) then return { 'passed' } end
if by_clock and overlap == 'skip' and runs_still(schedule) then return skip_tick(schedule, 'overlap', now) end
local creates = redis.call('HEXISTS', meta, 'created') == 0
-- A message that joins a running turn makes no turn, but counts among those of a minute.
if refused == 'minute' or (refused == 'sessions' and creates) then return { 'limited' } end
if creates and ask_for_session == '1' then return { 'new_session' } end
return_due(now) -- what is due by now comes before this message
local replaced, at, last, version = unpack(replaces)
if replaced == '' then return { 'nothing_to_replace' } end
if replaced and version ~= (redis.call('HGET', meta, 'history_version') or '0') then return { 'moved' } end
local open = (tonumber(redis.call('HGET', meta, 'open') or '') or 0) - redis.call('ZCARD', S .. ':later')
if policy == 'reject' and open > 0 then return { 'open', open } end
local running = policy == 'steer' and steerable(agent, speaker)
if running then
  local unread = redis.call('LLEN', turn_key(running) .. ':inbox')
  if unread >= tonumber(mailbox_limit) then return { 'full', unread } end
  steer(running, message, parts, turn, idempotency, digest, speaker)
  use_files(files)
  if webhook ~= '' then redis.call('HSETNX', turn_key(running), 'webhook', webhook) end
  return { 'steered', running }
end
if refused ~= '' and refused ~= 'sessions' then
  reindex(now)
  return { 'limited' }
end
local worker, marked = '', ''
if policy == 'interrupt' or policy == 'rollback' then worker, marked = clear_line(policy, now) end
local waiting = redis.call('LLEN', S .. ':mailbox')
-- All open turns: some wait for an answer, in the mailbox or outside it.
local all = tonumber(redis.call('HGET', meta, 'open') or '') or 0
if all >= tonumber(mailbox_limit) + (marked ~= '' and 1 or 0) then
  if by_clock then return skip_tick(schedule, 'full', now) end
  reindex(now) -- the policy may have ended some
  return { 'full', all }
end

redis.call('HSETNX', meta, 'created', now)
if hidden == '1' then redis.call('HSET', meta, 'hidden', 1) end
if title ~= '' and redis.call('HSETNX', meta, 'title', title) == 1 then redis.call('HSET', meta, 'title_of', turn) end
redis.call('HSETNX', meta, 'queue', queue)
if user ~= '' and not owner then
  redis.call('HSET', meta, 'owner', user)
  if redis.call('EXISTS', S .. ':waiting') == 1 then list_asking(now) end -- in the new owner's list as well
end
set_ttl(session_ttl_ms)
set_searchable(searchable, 'on:' .. turn)
set_compact(compact, now)
if redis.call('HINCRBY', meta, 'open', 1) == 1 then
  redis.call('PERSIST', S .. ':turns') -- it may have outlived an expired session of this id
  if (tonumber(redis.call('HGET', meta, 'ttl') or '') or 0) > 0 then keep_all() end
end
local due = now
if not_before ~= '' then
  due = math.max(now, string.sub(not_before, 1, 1) == '+' and now + not_before or tonumber(not_before))
end
redis.call('HSET', meta, 'used', now)
list_session(now)
redis.call('HSET', t, 'status', 'queued', 'request', request, 'digest', digest, 'idem', idempotency, 'accepted', now,
  'deadline', due + timeout_ms, 'attempt', 0, 'crashes', 0, 'result_ttl', result_ttl_ms, 'idem_ttl', idempotency_ttl_ms,
  'max_attempts', max_attempts, 'blocks', waiting_blocks, 'approval_ms', approval_ms)
-- The turn's record may outlive the session, and must still say which user it belongs to.
local turn_user = owner or user
if turn_user ~= '' then redis.call('HSET', t, 'user', turn_user) end
if sender ~= '' and sender ~= turn_user then redis.call('HSET', t, 'sender', sender) end
if watcher ~= '' then redis.call('HSET', t, watch, watcher) end
if webhook ~= '' then redis.call('HSET', t, 'webhook', webhook) end
if joins ~= '' then redis.call('HSET', t, 'joins', joins) end
use_files(files)
if metadata ~= '' then redis.call('HSET', t, 'metadata', metadata) end
if replaced then redis.call('HSET', t, 'replaces', replaced, 'replaces_at', at, 'replaces_last', last) end
-- A turn runs with the configuration that was in force when it was accepted, even if the agent is redefined later.
local known = redis.call('HGET', S .. ':agents', agent)
if agent_config ~= '' and agent_config ~= known then redis.call('HSET', S .. ':agents', agent, agent_config) end
redis.call('HSET', t, 'agent', agent_config ~= '' and agent_config or known or '')
if idempotency ~= '' then
  redis.call('HSET', S .. ':idem:' .. idempotency, 'turn', turn, 'digest', digest, 'sender', speaker)
  redis.call('PERSIST', S .. ':idem:' .. idempotency)
end
if due > now then
  redis.call('HSET', t, 'due', due)
  redis.call('ZADD', S .. ':later', due, turn)
else
  redis.call('RPUSH', S .. ':mailbox', turn)
end
redis.call('ZADD', S .. ':turns', '+inf', turn)
if tick_of then
  redis.call('HSET', t, 'schedule', tick_of)
  schedule.runs, schedule.last_turn, schedule.last_run = schedule.runs + 1, turn, by_clock and tonumber(at_ms) or now
  end_tick(schedule)
end
local session_queue = redis.call('HGET', meta, 'queue')
-- Only the first turn in the mailbox needs a wake-up, for the worker that holds the lease drains the mailbox.
-- An interrupt or rollback may have ended the turns before it, or left one for a worker to record.
local first = waiting == 0 or policy == 'interrupt' or policy == 'rollback'
local wake = (first and due == now and redis.call('EXISTS', S .. ':lease') == 0) and '1' or '0'
if wake == '1' then redis.call('HSET', meta, 'wake', now, 'wake_queue', session_queue) end
reindex(now)
return { 'accepted', turn, wake, now, session_queue, worker, marked }
