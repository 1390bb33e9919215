-- Segments: the oldest entries of the history are not in the list `:history` but, several together and compressed, in the
-- list `:segments` (sessions/store/segments.py). `packed` of :meta is how many entries that are, `segment_sizes` how many
-- each segment has: `<segments>*<entries>`, for segments of the same size together. After `branches`.

-- Names a state of the history in which each position below its length has the same entry, and each segment the same
-- entries. '' if there is no session.
local function state_of_positions()
  local m = redis.call('HMGET', S .. ':meta', 'created', 'history_version', 'unpacked')
  return m[1] and m[1] .. '.' .. (m[2] or '0') .. '.' .. (m[3] or '0') or ''
end

local function read_sizes()
  local runs = {}
  for number, size in string.gmatch(redis.call('HGET', S .. ':meta', 'segment_sizes') or '', '(%d+)%*(%d+)') do
    runs[#runs + 1] = { tonumber(number), tonumber(size) }
  end
  return runs
end

-- Puts a run behind the others, or adds it to the last one.
local function add_run(runs, number, size)
  local last = runs[#runs]
  if number == 0 or size == 0 then return end
  if last and last[2] == size then last[1] = last[1] + number else runs[#runs + 1] = { number, size } end
end

local function write_sizes(runs)
  local texts, total = {}, 0
  for i, run in ipairs(runs) do
    texts[i], total = run[1] .. '*' .. run[2], total + run[1] * run[2]
  end
  if total == 0 then
    redis.call('HDEL', S .. ':meta', 'packed', 'segment_sizes')
  else
    redis.call('HSET', S .. ':meta', 'packed', total, 'segment_sizes', table.concat(texts, ' '))
  end
end

-- The index of the segment that has the entry at this position, and the entry's index in it.
local function locate(at)
  local index = 0
  for _, run in ipairs(read_sizes()) do
    if at < run[1] * run[2] then return index + math.floor(at / run[2]), at % run[2] end
    index, at = index + run[1], at - run[1] * run[2]
  end
end

-- A key of the session that was just created expires with the others.
local function expire_with_session(key)
  local at = redis.call('PEXPIRETIME', S .. ':meta')
  if at > 0 then redis.call('PEXPIREAT', key, at) end
end

-- Entries by position, the last one included; negative from the end. Returns how many there are, the segments that have
-- the first of them, how many entries of these come before, and the entries that are not in segments.
local function range(start, stop)
  local before, length = packed_entries(), history_length()
  if start < 0 then start = math.max(0, length + start) end
  stop = stop < 0 and length + stop or math.min(stop, length - 1)
  local segments, skip, entries = {}, 0, {}
  if start <= stop and start < before then
    local first, offset = locate(start)
    segments, skip = redis.call('LRANGE', S .. ':segments', first, (locate(math.min(stop, before - 1)))), offset
  end
  if start <= stop and stop >= before then entries = entries_between(start, stop + 1) end
  return math.max(0, stop - start + 1), segments, skip, entries
end

-- The first position that must not be packed: the window begins there, or an open turn has seen it or is to replace it.
local function packable_upto()
  local upto = tonumber(redis.call('HGET', S .. ':meta', 'window_at') or '') or 0
  local function look(ids)
    for _, id in ipairs(ids) do
      local seen = redis.call('HGET', turn_key(id) .. ':journal', 'inputs')
      local place = tonumber(redis.call('HGET', turn_key(id), 'replaces_at') or '')
      if seen then upto = math.min(upto, first_seen(seen)) elseif place then upto = math.min(upto, place) end
    end
  end
  look(redis.call('LRANGE', S .. ':mailbox', 0, -1))
  look(redis.call('ZRANGE', S .. ':waiting', 0, -1))
  return upto
end

-- Writes a segment without one of its entries; '' if it has no other. Returns whether that was done.
local function forget_packed(at, segment)
  local index, offset = locate(at)
  local runs, passed = {}, 0
  for _, run in ipairs(read_sizes()) do
    local own = index - passed
    if own >= 0 and own < run[1] then
      if (segment == '') ~= (run[2] == 1) then return false end
      add_run(runs, own, run[2])
      add_run(runs, 1, run[2] - 1)
      add_run(runs, run[1] - own - 1, run[2])
    else
      add_run(runs, run[1], run[2])
    end
    passed = passed + run[1]
  end
  if segment == '' then remove_at(S .. ':segments', index) else redis.call('LSET', S .. ':segments', index, segment) end
  write_sizes(runs)
  return true
end
