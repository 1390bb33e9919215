-- The window: the part of the history that a turn's model sees. It stands still and then moves by a large step, so that
-- each request begins with the whole request before it, which providers read from their caches for a tenth of the price.
-- `window_at` of :meta is the position where it begins. After `branches`.
local LARGE = 65536 -- what an entry has beyond this counts a tenth: prompts have only the two ends of a huge tool result

local function weight(entry)
  return math.min(#entry, LARGE) + math.max(0, #entry - LARGE) / 10
end

-- The index of the oldest of the newest entries that fit the limit together; the newest one always does.
local function oldest_within(entries, limit, weigh)
  local total = 0
  for i = #entries, 1, -1 do
    total = total + weigh(entries[i])
    if total > limit and i < #entries then return i + 1 end
  end
  return 1
end

local function from_index(entries, first)
  if first == 1 then return entries end
  local kept = {}
  for i = first, #entries do kept[#kept + 1] = entries[i] end
  return kept
end

local function limits_of(window)
  local turns, bytes = string.match(window, '^(%d+):?(%d*)$')
  return tonumber(turns), tonumber(bytes) or math.huge
end

-- Where the window begins of a turn that begins when the history has `upto` entries before it, by the limit in turns: if it
-- is exceeded, the window moves so far that about half of it is free again. Also where it began before.
local function window_begin(upto, turns)
  local before = tonumber(redis.call('HGET', S .. ':meta', 'window_at') or '') or 0
  local from = before < upto and before or 0
  if upto - from > turns then from = upto - math.max(1, math.floor(turns / 2)) end
  return from, before
end

-- The window of such a turn. `limits` is turns, or turns:bytes. If the bytes are exceeded, the window moves, too. Returns
-- its entries.
local function place_window(upto, limits)
  local turns, bytes = limits_of(limits)
  if turns == 0 or upto == 0 then return {} end
  local from, before = window_begin(upto, turns)
  local entries = entries_between(from, upto)
  if oldest_within(entries, bytes, weight) > 1 then
    local first = oldest_within(entries, bytes / 2, weight)
    entries, from = from_index(entries, first), from + first - 1
  end
  if from ~= before then redis.call('HSET', S .. ':meta', 'window_at', from) end
  return entries
end

-- The first position that a turn's first attempt saw, from its journal.
local function first_seen(inputs)
  local upto, turns = string.match(inputs, '^(%d+):(%d+):')
  return math.max(0, upto - turns)
end

-- The window that a turn's first attempt saw, from its journal: upto:turns:now. Turns that began under an earlier version
-- have the limits there, upto:turns:bytes:now, and see as many of the newest entries as fit.
local function window_seen(inputs)
  local upto, turns = string.match(inputs, '^(%d+):(%d+):')
  local limit = tonumber(string.match(inputs, '^%d+:%d+:(%d+):') or '') or math.huge
  if tonumber(turns) == 0 or tonumber(upto) == 0 then return {} end
  local entries = entries_between(first_seen(inputs), tonumber(upto))
  return from_index(entries, oldest_within(entries, limit, string.len))
end

-- Moves the window so that only the newest `kept` of the entries that a turn saw stay in it.
local function narrow_window(inputs, kept)
  local upto = tonumber(string.match(inputs, '^(%d+):'))
  redis.call('HSET', S .. ':meta', 'window_at', math.max(0, upto - kept))
end
