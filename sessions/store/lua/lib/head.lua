-- Begins the turn at the head of the mailbox: for lease_session, and for commit_turn when it begins the next turn. After
-- `window`.

-- What a worker needs to run a turn: its record, its journal, and the window of history that the turn's first attempt saw,
-- for a replay must see the same input. `seen`: that window, if it was read just now.
local function run_reply(id, value, now, last, closing, seen)
  local t = turn_key(id)
  local r = redis.call('HMGET', t, 'request', 'attempt', 'deadline', 'accepted', 'seq', 'retries', 'agent', 'cancel',
    'crashes', 'sender', 'replaces_at', 'summary')
  local history = seen or window_seen(redis.call('HGET', t .. ':journal', 'inputs'))
  local owner = redis.call('HGET', S .. ':meta', 'owner') or ''
  return { 'run', id, value, r[2], r[1], r[3], r[4], r[5], r[6], last, now, owner,
    redis.call('HGETALL', t .. ':journal'), history, r[7] or '',
    redis.call('HGETALL', S .. ':state'), closing or (r[8] and 'cancelled' or ''), r[9] or '0',
    r[10] or '', r[11] or '', redis.call('LLEN', S .. ':mailbox') - 1, r[12] or '', packed_entries() }
end

-- The first position that a turn sees, if that is in a segment: a worker must unpack it before the turn can begin.
local function packed_away(id, window)
  local inputs = redis.call('HGET', turn_key(id) .. ':journal', 'inputs')
  local upto = tonumber(redis.call('HGET', turn_key(id), 'replaces_at') or '') or history_length()
  local turns, first = (limits_of(window)), nil
  if inputs then
    local seen, count = string.match(inputs, '^(%d+):(%d+):')
    turns, upto, first = tonumber(count), tonumber(seen), first_seen(inputs)
  else
    first = window_begin(upto, turns)
  end
  return turns > 0 and upto > 0 and first < packed_entries() and first or nil
end

-- Fixes what all attempts of a turn see: the end of its window, how many turns the window has, the time, and the summary of
-- the turns before the window. Returns the window if this is the first attempt.
local function fix_inputs(id, window, now)
  local journal = turn_key(id) .. ':journal'
  if redis.call('HEXISTS', journal, 'inputs') == 1 then return nil end
  local upto = tonumber(place_of(id))
  local entries = place_window(upto, window)
  redis.call('HSET', journal, 'inputs', upto .. ':' .. #entries .. ':' .. now)
  -- In the record, and not in the journal: workers of an earlier version could not decrypt it there.
  local summary = #entries > 0 and summary_before(upto)
  if summary then redis.call('HSET', turn_key(id), 'summary', summary) end
  ask_for_summary(now)
  return entries
end

-- `closing` says why the turn must end without being run; a worker only records what it finished. That is no attempt.
local function start(id, value, lease_ms, worker, window, now, last, closing)
  local t = turn_key(id)
  local token = string.match(value, '^(%d+):')
  redis.call('SET', S .. ':lease', value, 'PX', lease_ms)
  -- To resume after waiting for tasks is no new attempt and sends no event. To resume with the answers to its calls is no
  -- new attempt either, but sends one.
  local resumed = redis.call('HDEL', t, 'resumed') == 1 or closing
  local answered = redis.call('HDEL', t, 'answered') == 1
  local attempt = redis.call('HINCRBY', t, 'attempt', (resumed or answered) and 0 or 1)
  redis.call('HSET', t, 'status', 'running', 'owner', value, 'worker', worker, 'not_before', 0, 'seq', resumed and 0 or 1)
  if not resumed then redis.call('HSET', t, 'started', now) end
  if closing then redis.call('HSET', t, 'closing', closing) end
  local seen = fix_inputs(id, window, now)
  if resumed then
    reindex(now)
    return run_reply(id, value, now, last, closing, seen)
  elseif answered then
    local eid = add_event(id, token, 1, 'resumed', cjson.encode({ attempt = attempt, worker = worker }))
    redis.call('HSET', t, 'valid', eid)
  elseif attempt == 1 then
    add_event(id, token, 1, 'started', cjson.encode({ attempt = 1, worker = worker }))
  else
    local valid = redis.call('HGET', t, 'valid')
    add_event(id, token, 1, 'attempt_reset',
      cjson.encode({ attempt = attempt, worker = worker, valid_through = valid or cjson.null }))
  end
  reindex(now)
  notify(id, false)
  return run_reply(id, value, now, last, nil, seen)
end

-- Counts a crash of the head: its lease ended without a release. Nothing else counts towards max_attempts.
local function note_crash(id, owner)
  local t = turn_key(id)
  redis.call('HSET', t, 'status', 'queued', 'owner', '', 'crash:' .. owner, 1)
  return redis.call('HINCRBY', t, 'crashes', 1)
end

-- Why a turn that has begun must end now, or nil. A worker then writes what it finished into the history, and ends it. If
-- that worker crashes as well, the turn ends here and its steps are left out of the history. A turn that was rolled back
-- leaves nothing, and a team run first ends its tasks.
local function why_close(id, r, crashes, limit, not_before, now)
  if r[5] then
    if r[8] ~= '0' and crashes < limit and not has_tasks(id) then return 'cancelled' end
    return nil
  end
  if crashes > limit or has_tasks(id) then return nil end
  if crashes == limit then return 'dead_lettered' end
  if r[9] then return 'unanswered' end
  if tonumber(r[6]) <= now and not (r[1] == 'waiting' and not_before == 0) then return 'deadline' end
  return nil
end

-- Ends heads that can no longer run, then begins the first one that can. `value` is the lease held, or nil to make one
-- from a new fencing token. Returns run | empty | waiting | later | last | effects (a turn ended just now, and its effects
-- must be applied before the next turn begins) | packed_away.
local function start_head(value, nonce, lease_ms, worker, window, last_ok, now, packed_ok)
  expire_waits(now)
  return_due(now)
  while true do
    local id = redis.call('LINDEX', S .. ':mailbox', 0)
    if not id then return { 'empty' } end
    local r = redis.call('HMGET', turn_key(id), 'status', 'owner', 'crashes', 'max_attempts', 'cancel', 'deadline', 'not_before',
      'keep', 'unanswered', 'replaces', 'attended')
    local crashes, limit = tonumber(r[3] or '') or 0, tonumber(r[4] or '') or 1
    local not_before = tonumber(r[7] or '') or 0
    if r[1] == 'running' and value and r[2] == value then -- Retry after a lost reply.
      local closing = redis.call('HGET', turn_key(id), 'closing') or nil
      return run_reply(id, value, now, (limit > 1 and crashes == limit - 1) and '1' or '0', closing)
    end
    if r[1] == 'running' then
      if nonce ~= '' and string.match(r[2] or '', ':(.*)$') == nonce then -- ours: the reply was lost, and then the lease
        redis.call('HSET', turn_key(id), 'status', 'queued', 'owner', '')
      else
        crashes = note_crash(id, r[2])
      end
    end
    if r[1] and not r[5] and abandoned(id, r[11], now) then r[5] = now end
    local closing = r[1] and begun(id) and why_close(id, r, crashes, limit, not_before, now)
    local misplaced = r[10] and not begun(id) and why_not_replace(id)
    local function token() return redis.call('INCR', P .. ':fence') end
    if not r[1] then
      bury_missing(id, now)
    elseif r[5] and not closing and not (has_tasks(id) and crashes < limit and tonumber(r[6]) > now) then
      end_turn(id, 'cancelled', now, token(), 1, { 'error', failure('TurnCancelled', 'cancelled by a client') })
    elseif crashes >= limit and not closing then
      end_turn(id, 'dead_lettered', now, token(), 1, { 'error', failure('TurnDeadLettered',
        'the worker of this turn died ' .. crashes .. ' times; its journal is kept') })
    elseif r[9] and not closing then
      end_turn(id, 'failed', now, token(), 1, { 'error', failure('ApprovalTimeout',
        'nobody answered its pending calls in time; allow more with approval_timeout=') })
    elseif r[1] == 'waiting' and not_before == 0 then
      return { 'waiting' }
    elseif tonumber(r[6]) <= now and not closing then
      end_turn(id, 'failed', now, token(), 1, { 'error', failure('TurnDeadlineExceeded',
        'the deadline passed before the turn ended; give it more time with timeout=') })
    elseif r[1] == 'waiting' and not_before > now and not closing then
      return { 'waiting' }
    elseif not_before > now and not closing then
      return { 'later', r[7] }
    elseif misplaced then
      end_turn(id, 'failed', now, token(), 1, { 'error', failure('HistoryChanged', misplaced) })
    elseif limit > 1 and crashes == limit - 1 and last_ok == '0' then
      return { 'last' } -- this process already runs a turn on its last attempt; a crash must not end both
    elseif redis.call('EXISTS', S .. ':outbox') == 1 then
      return { 'effects' }
    else
      local away = packed_away(id, window)
      if away and packed_ok ~= '1' then return { 'packed_away', away } end
      local last = (limit > 1 and crashes == limit - 1) and '1' or '0'
      return start(id, value or (token() .. ':' .. nonce), lease_ms, worker, window, now, last, closing or nil)
    end
  end
end

-- Gives the lease back when no turn was begun under it, and sets when to look at the session again.
local function settle(word, now)
  redis.call('DEL', S .. ':lease')
  reindex(now)
  if word == 'last' then redis.call('ZADD', P .. ':wakeups', now + 1000, ref()) end
end
