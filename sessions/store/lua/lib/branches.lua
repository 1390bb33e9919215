-- Turns that leave the history. Those that another turn replaces stay readable: their entries move to the list `:left`,
-- and a record in the list `:branches` says where they are. After `session`.
--
-- A branch is the history as it was before it was cut at position `at`: what is before `at`, then `turns` entries of
-- `:left` from `start` on. A later cut at a lower position took the end of that first part along; readers find it by the
-- later branch's record (sessions/store/history_store.py).
local PAGE = 100 -- entries that are moved at a time: `unpack` has a limit, and so has the memory of a script

-- How many of the oldest entries are in segments (`segments`); the list `:history` begins with the next one.
local function packed_entries()
  return tonumber(redis.call('HGET', S .. ':meta', 'packed') or '') or 0
end

local function history_length()
  return packed_entries() + redis.call('LLEN', S .. ':history')
end

-- The entries from a position on, up to and without another one. Entries in segments are left out.
local function entries_between(from, upto)
  local before = packed_entries()
  if upto <= before then return {} end
  return redis.call('LRANGE', S .. ':history', math.max(0, from - before), upto - before - 1)
end

-- Removes all entries.
local function forget_history()
  redis.call('UNLINK', S .. ':history', S .. ':segments')
  redis.call('HDEL', S .. ':meta', 'packed', 'segment_sizes')
end

-- Removes the entries from a position on, none of which is in a segment.
local function trim_history(at)
  local before = packed_entries()
  if at == before then redis.call('UNLINK', S .. ':history') else redis.call('LTRIM', S .. ':history', 0, at - before - 1) end
end

-- Positions change by this only. Who looked a position up names the version, and looks again if it is another one.
-- `at` is the first position that has another turn now; nil if entries were only added.
local function note_history_changed(at)
  keep_summary(at or math.huge, redis.call('HINCRBY', S .. ':meta', 'history_version', 1))
end

-- The window begins anew if the entries from position `at` on leave, and it began after that position.
local function cut_window(at)
  local from = tonumber(redis.call('HGET', S .. ':meta', 'window_at') or '') or 0
  if from > at then redis.call('HDEL', S .. ':meta', 'window_at') end
end

local function branches()
  local found = redis.call('LRANGE', S .. ':branches', 0, -1)
  for i, raw in ipairs(found) do found[i] = cjson.decode(raw) end
  return found
end

local function write_branch(i, branch)
  redis.call('LSET', S .. ':branches', i - 1, cjson.encode(branch))
end

-- Calls `each(id, position)` for every open turn that has not begun and is to replace a turn.
local function each_replacing(except, each)
  local function look(ids)
    for _, id in ipairs(ids) do
      local at = id ~= except and redis.call('HGET', turn_key(id), 'replaces_at')
      if at then each(id, tonumber(at)) end
    end
  end
  look(redis.call('LRANGE', S .. ':mailbox', 0, -1))
  look(redis.call('ZRANGE', S .. ':later', 0, -1))
end

-- Names a state of the history: another one, if anything in it changes. '' if there is no session.
local function history_revision()
  local m = redis.call('HMGET', S .. ':meta', 'created', 'history_version')
  return m[1] and m[1] .. '.' .. (m[2] or '0') .. '.' .. history_length() or ''
end

-- Moves the turns from position `at` on, none of which is in a segment, into a new branch. Its id is that of the first of them, `replaced`, for a turn
-- leaves the history once. `by` is the turn that takes their place.
local function cut_off(by, replaced, at, messages, now)
  local left, length = S .. ':left', history_length()
  local start = redis.call('LLEN', left)
  for i = at, length - 1, PAGE do
    redis.call('RPUSH', left, unpack(entries_between(i, math.min(i + PAGE, length))))
  end
  trim_history(at)
  redis.call('RPUSH', S .. ':branches', cjson.encode({
    id = replaced, by = by, at = at, start = start, turns = length - at,
    messages = messages, left_at = now,
  }))
  redis.call('HINCRBY', S .. ':meta', 'messages', 0 - messages)
  cut_window(at)
  each_replacing(by, function(id, place)
    if place >= at then redis.call('HSET', turn_key(id), 'replaces_gone', 'replaced by turn ' .. by) end
  end)
  note_history_changed(at)
end

-- Removes the entry at an index of a list. All entries are different, and none is like this marker.
local function remove_at(list, at)
  redis.call('LSET', list, at, '\0removed')
  redis.call('LREM', list, at * 2 < redis.call('LLEN', list) and 1 or -1, '\0removed')
end

-- One turn less at position `at` for the branches that contain it in their first part: from the one before `i` down to
-- the first that was cut at or before it, for all older ones have another turn at that position.
local function shorten_before(all, i, at)
  for k = i - 1, 1, -1 do
    if all[k].at <= at then return end
    all[k].at = all[k].at - 1
    write_branch(k, all[k])
  end
end

-- What depends on positions in the history, after the entry at one of them is gone.
local function close_gap(at, messages)
  redis.call('HINCRBY', S .. ':meta', 'messages', 0 - messages)
  local from = tonumber(redis.call('HGET', S .. ':meta', 'window_at') or '') or 0
  if from > at then redis.call('HINCRBY', S .. ':meta', 'window_at', -1) end
  local all = branches()
  shorten_before(all, #all + 1, at)
  each_replacing('', function(id, place)
    if place == at then redis.call('HSET', turn_key(id), 'replaces_gone', 'deleted') end
    if place > at then redis.call('HINCRBY', turn_key(id), 'replaces_at', -1) end
  end)
end

local function forget_in_branch(at, messages)
  remove_at(S .. ':left', at)
  local all, empty = branches(), nil
  for i, branch in ipairs(all) do
    if branch.start > at then
      branch.start = branch.start - 1
      write_branch(i, branch)
    elseif at < branch.start + branch.turns then
      branch.turns, branch.messages = branch.turns - 1, branch.messages - messages
      write_branch(i, branch)
      shorten_before(all, i, branch.at + at - branch.start)
      if branch.turns == 0 then empty = i end
    end
  end
  if empty then remove_at(S .. ':branches', empty - 1) end
end

-- An open turn that would not find what it needs if the history changed at position `at`: one that has seen the turn
-- there and may have to be replayed, or one that has begun to replace a turn.
local function depends_on(at)
  local function depends(id)
    local seen = redis.call('HGET', turn_key(id) .. ':journal', 'inputs')
    if not seen then return false end
    return tonumber(string.match(seen, '^%d+')) > at or redis.call('HEXISTS', turn_key(id), 'replaces_at') == 1
  end
  for _, id in ipairs(redis.call('LRANGE', S .. ':mailbox', 0, -1)) do
    if depends(id) then return id end
  end
  for _, id in ipairs(redis.call('ZRANGE', S .. ':waiting', 0, -1)) do
    if depends(id) then return id end
  end
end

-- Why a turn cannot take another one's place, or nil. Asked when it is about to begin.
local function why_not_replace(id)
  local r = redis.call('HMGET', turn_key(id), 'replaces', 'replaces_at', 'replaces_last', 'replaces_gone')
  local replaced = 'turn ' .. r[1] .. ', which this one was to replace, '
  if r[4] then return replaced .. 'was ' .. r[4] .. ' in the meantime' end
  if r[3] == '1' and history_length() ~= r[2] + 1 then
    return replaced .. 'is no longer the last one: a later turn was committed in the meantime. Name the turn to replace '
      .. 'it all the same, with all that came after it'
  end
  local waiting = depends_on(tonumber(r[2]))
  if waiting then
    return replaced .. 'was seen by turn ' .. waiting .. ', which waits for an answer: answer or cancel that one first'
  end
end

-- Fixes the history that a turn replaces when it begins; a replay sees the turns before it. Returns how many these are.
local function place_of(id)
  local at = redis.call('HGET', turn_key(id), 'replaces_at')
  if not at then return history_length() end
  redis.call('HSETNX', turn_key(id), 'replaces_of', history_length())
  return at
end
