#!lua flags=allow-oom
-- Ends the running turn: checks the lease, then writes history, result and usage in one step; then begins the session's
-- next turn under the same lease, or gives the lease back.
-- KEYS
--   S: base of the session (writes :lease string, :mailbox list, :history, :left and :branches lists, :meta hash, :turn:<id> hash,
--      :turn:<id>:events stream, :turn:<id>:journal hash, :turns zset, :idem:<key> hash, :state hash, :outbox list,
--      :waiting zset, :later zset; reads :turn:<id>:inbox)
--   P: base of its partition (writes :wakeups zset, :fence counter, :dead zset, :usage~<tenant>~<day> hash)
-- ARGV
--   turn
--   lease: its value
--   status: succeeded | failed | cancelled | dead_lettered
--   result: JSON, or ''
--   error_json: JSON, or ''
--   usage: JSON
--   history_entry: or ''
--   messages: how many the history entry has
--   messages_cut: how many the turns have that this one replaces
--   seq: number of the event `ended`
--   go_on: 1 to begin the next turn, else 0
--   lease_ms: how long a lease lasts
--   worker: name of this worker
--   window: how much history a turn is given at most: turns, or turns:bytes
--   window_kept: how many of the turns that this one saw stay in the window; '' for all
--   last_ok: 1 if this process may run a turn on its last attempt, else 0
--   finish_reason: why the model stopped, or ''
--   archived: entry for the outbox if the turn gets a history entry, or ''
--   usage_key: the end of the name of the counters of the turn's day, or ''
--   usage_expires_ms: when they expire
--   spent[counter, amount]: what to add to them
--   changes[kind, field, a, b]: changes of the session's state, as write_state has them
--   effects[]: entries for the outbox
-- Returns
--   lost (nothing was written: the lease is no longer ours)
--   steered (nothing was written: a message joined the turn that the model has not read yet)
--   state_changed (nothing was written: a value that a compare-and-swap was decided on has changed; decide again)
--   packed_away: at (nothing was written: first the entries from this position on must be unpacked)
--   committed: status, queue, now_ms (queue: turns wait, publish a wake-up to it; '' if none do)
--   effects_due: status (the lease was given back: apply the outbox, then take the lease again)
--   next_run: turn, lease, attempt, request, deadline_ms, accepted_ms, seq, retries, last, now_ms, user, journal, history,
--      agent_config, state, closing, crashes, sender, replaces_at, behind, summary, packed, status (as lease_session's run,
--      and the status of the turn that ended)
--!include clock
--!include session
--!include compaction
--!include branches
--!include window
--!include head
--!include state
--!include transcript

-- The turn's changes of state. A change that has become impossible (a number was replaced by a text) is left out.
local function apply_effects()
  for i = 1, #changes, 4 do
    local kind, field, a, b = unpack(changes, i, i + 3)
    if not objection(S .. ':state', {}, kind, field, a, b) then change(S .. ':state', kind, field, a, b) end
  end
  for _, entry in ipairs(effects) do redis.call('RPUSH', S .. ':outbox', entry) end
end

-- This script cannot decrypt state. So with encryption the worker computes the new value and swaps it for the one it
-- read. Has such a value changed since?
local function state_changed()
  for i = 1, #changes, 4 do
    local kind, field, a, b = unpack(changes, i, i + 3)
    if kind == 'swap' and objection(S .. ':state', {}, kind, field, a, b) then return true end
  end
  return false
end

-- Writes the turn's entry: at the end of the history, or in the place of the turns from `at` on.
local function write_history(at, now)
  if history_entry == '' then return end
  if at then cut_off(turn, redis.call('HGET', turn_key(turn), 'replaces'), at, tonumber(messages_cut), now) end
  redis.call('RPUSH', S .. ':history', history_entry)
  redis.call('HINCRBY', S .. ':meta', 'messages', messages)
  if is_searchable() then note_transcript(turn) end
end

-- Adds what the turn used to the counters of its day, in the step that ends it: exactly once.
local function count_usage()
  if #spent == 0 then return end
  local counters = P .. ':usage' .. usage_key
  for i = 1, #spent, 2 do redis.call('HINCRBY', counters, spent[i], spent[i + 1]) end
  redis.call('PEXPIREAT', counters, usage_expires_ms)
end

local function next_run(reply, ended)
  reply[1] = 'next_run'
  reply[#reply + 1] = ended
  return reply
end

-- Retry after a lost reply, and the lease ran out in between. If the turn that the commit began still has our lease as
-- its owner, no other worker has had the session since, so the lease is taken back.
local function taken_back(now)
  local head = redis.call('LINDEX', S .. ':mailbox', 0)
  local r = head and redis.call('HMGET', turn_key(head), 'status', 'owner') or {}
  if r[1] ~= 'running' or r[2] ~= lease then return nil end
  redis.call('SET', S .. ':lease', lease, 'PX', lease_ms)
  reindex(now)
  return start_head(lease, '', lease_ms, worker, window, last_ok, now)
end

local t, now = turn_key(turn), now_ms()
local r = redis.call('HMGET', t, 'status', 'owner', 'cancel', 'keep', 'replaces_at', 'replaces_of')
if r[2] ~= lease then return { 'lost' } end
if FINAL[r[1]] then
  status = r[1] -- Retry after a lost reply: the stored outcome stands.
else
  if r[1] ~= 'running' or redis.call('GET', S .. ':lease') ~= lease then return { 'lost' } end
  if redis.call('LINDEX', S .. ':mailbox', 0) ~= turn then return { 'lost' } end
  local kept = r[3] and r[4] == '1' -- interrupted: its changes of state are kept as well
  local forgotten = r[3] and r[4] == '0' -- rolled back
  if r[3] and status ~= 'cancelled' then -- an accepted cancel overrules a commit that comes after it
    status, result, error_json = 'cancelled', '', failure('TurnCancelled', 'cancelled by a client')
  end
  local at = tonumber(r[5] or '') -- it takes the place of the turns from here on
  if at and status == 'succeeded' and history_length() ~= tonumber(r[6]) then
    status, result, error_json = 'failed', '', failure('HistoryChanged', 'the history changed while this turn replaced a part of it')
  end
  if at and status ~= 'succeeded' then history_entry, kept = '', false end -- then those turns stay
  if status == 'succeeded' and redis.call('EXISTS', t .. ':inbox') == 1 then return { 'steered' } end
  if at and history_entry ~= '' and at < packed_entries() then return { 'packed_away', at } end
  if (status == 'succeeded' or kept) and state_changed() then return { 'state_changed' } end
  if forgotten then history_entry = '' end
  write_history(at, now)
  if window_kept ~= '' then narrow_window(redis.call('HGET', t .. ':journal', 'inputs'), window_kept) end
  ask_for_summary(now)
  if archived ~= '' and history_entry ~= '' then
    redis.call('RPUSH', S .. ':outbox', archived)
    redis.call('HSET', S .. ':meta', 'archived', 1)
  end
  count_in_session(usage)
  count_usage()
  if status == 'succeeded' or kept then apply_effects() end
  local token = string.match(lease, '^(%d+):')
  end_turn(turn, status, now, token, seq,
    { 'result', result, 'error', error_json, 'usage', usage, 'finish', finish_reason })
end
local held = redis.call('GET', S .. ':lease')
if held and held ~= lease then return { 'committed', status, '', now } end
local going_on = not held and taken_back(now)
if going_on then
  if going_on[1] == 'run' then return next_run(going_on, status) end
  return { 'committed', status, '', now }
end
-- If the session has no lease now, the first commit gave it back and its reply was lost: say again what is left to do.
if redis.call('EXISTS', S .. ':outbox') == 1 then
  if held then settle('effects', now) end
  return { 'effects_due', status }
end
if held and go_on == '1' then
  local reply = start_head(lease, '', lease_ms, worker, window, last_ok, now)
  if reply[1] == 'run' then return next_run(reply, status) end
  if reply[1] ~= 'packed_away' then -- else a worker unpacks, and then takes the lease
    settle(reply[1], now)
    if redis.call('EXISTS', S .. ':outbox') == 1 then return { 'effects_due', status } end
    return { 'committed', status, '', now }
  end
end
local queue = ''
if redis.call('LLEN', S .. ':mailbox') > 0 then queue = redis.call('HGET', S .. ':meta', 'queue') end
if held then -- else the first commit did this, and its reply was lost
  redis.call('DEL', S .. ':lease')
  if queue ~= '' then redis.call('HSET', S .. ':meta', 'wake', now, 'wake_queue', queue) end
  reindex(now)
end
return { 'committed', status, queue, now }
