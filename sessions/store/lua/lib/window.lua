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

-- The window of a turn that begins when the history has `upto` entries before it. `limits` is turns, or turns:bytes. If
-- the window exceeds one of them, it moves so far that about half of that limit is free again. Returns its entries.
local function place_window(upto, limits)
  local turns, bytes = string.match(limits, '^(%d+):?(%d*)$')
  turns, bytes = tonumber(turns), tonumber(bytes) or math.huge
  if turns == 0 or upto == 0 then return {} end
  local before = tonumber(redis.call('HGET', S .. ':meta', 'window_at') or '') or 0
  local from = before < upto and before or 0
  if upto - from > turns then from = upto - math.max(1, math.floor(turns / 2)) end
  local entries = redis.call('LRANGE', S .. ':history', from, upto - 1)
  if oldest_within(entries, bytes, weight) > 1 then
    local first = oldest_within(entries, bytes / 2, weight)
    entries, from = from_index(entries, first), from + first - 1
  end
  if from ~= before then redis.call('HSET', S .. ':meta', 'window_at', from) end
  return entries
end

-- The window that a turn's first attempt saw, from its journal: upto:turns:now. Turns that began under an earlier version
-- have the limits there, upto:turns:bytes:now, and see as many of the newest entries as fit.
local function window_seen(inputs)
  local upto, turns = string.match(inputs, '^(%d+):(%d+):')
  local limit = tonumber(string.match(inputs, '^%d+:%d+:(%d+):') or '') or math.huge
  if tonumber(turns) == 0 or tonumber(upto) == 0 then return {} end
  local entries = redis.call('LRANGE', S .. ':history', math.max(0, upto - turns), upto - 1)
  return from_index(entries, oldest_within(entries, limit, string.len))
end

-- Moves the window so that only the newest `kept` of the entries that a turn saw stay in it.
local function narrow_window(inputs, kept)
  local upto = tonumber(string.match(inputs, '^(%d+):'))
  redis.call('HSET', S .. ':meta', 'window_at', math.max(0, upto - kept))
end
