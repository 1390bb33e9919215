#!lua flags=no-writes,allow-cross-slot-keys
-- Reads the next entries of an index of sessions, from several partitions as if they were one, with fields of the sessions.
-- On a cluster the partitions must be on one server; if one of them is not, or is being moved, the server refuses.
-- KEYS
--   P: base of a partition (reads an index of sessions, and :meta hash of the sessions in it)
-- ARGV
--   tenant: as it is in keys
--   index: its name after the base
--   score: of the entry to continue after, or +inf
--   name: of that entry, or ''
--   least: the lowest score that is wanted, or -inf
--   most: how many entries to return
--   partitions[]: bases of others
--   fields[]: of the sessions' records
-- Returns
--   entries: found[score, name, values] (the highest scores first; those with the same score by name, the last one first;
--      values of the fields)
local most_wanted = tonumber(most)
local step = math.ceil(most_wanted / (1 + #partitions)) + 2

-- By bytes. Lua's own comparison depends on the server's locale.
local function later(one, other)
  for i = 1, math.min(#one, #other) do
    local a, b = string.byte(one, i), string.byte(other, i)
    if a ~= b then return a > b end
  end
  return #one > #other
end

-- A stream is what is left of one partition's index: its first entry, and how to get the next one.
local function advance(stream)
  repeat
    stream.at = stream.at + 2
    if stream.at > #stream.page then
      if #stream.page < 2 * step and stream.start > 0 then return false end
      stream.page = redis.call('ZRANGE', stream.key, score, least, 'BYSCORE', 'REV', 'LIMIT', stream.start, step, 'WITHSCORES')
      stream.start, stream.at = stream.start + step, 1
      if #stream.page == 0 then return false end
    end
    stream.name, stream.text = stream.page[stream.at], stream.page[stream.at + 1]
    stream.score = tonumber(stream.text)
    -- Entries with the score of the one to continue after may come before it.
  until name == '' or stream.text ~= score or later(name, stream.name)
  return true
end

local function first(one, other)
  if one.score ~= other.score then return one.score > other.score end
  return later(one.name, other.name)
end

-- A heap of the streams: the one with the first entry is on top.
local heap = {}

local function sink(at)
  local stream = heap[at]
  while true do
    local child = 2 * at
    if child < #heap and first(heap[child + 1], heap[child]) then child = child + 1 end
    if child > #heap or not first(heap[child], stream) then break end
    heap[at], at = heap[child], child
  end
  heap[at] = stream
end

partitions[#partitions + 1] = P
for _, partition in ipairs(partitions) do
  local stream = { partition = partition, key = partition .. ':' .. index, page = {}, start = 0, at = 1 }
  if advance(stream) then heap[#heap + 1] = stream end
end
for at = math.floor(#heap / 2), 1, -1 do sink(at) end

local function values(stream)
  if #fields == 0 then return {} end
  return redis.call('HMGET', stream.partition .. ':' .. tenant .. ':' .. stream.name .. ':meta', unpack(fields))
end

local count = 0
local reply = { 'entries' }
while #heap > 0 and count < most_wanted do
  local top = heap[1]
  reply[3 * count + 2], reply[3 * count + 3], reply[3 * count + 4] = top.text, top.name, values(top)
  count = count + 1
  if not advance(top) then
    heap[1] = heap[#heap]
    heap[#heap] = nil
  end
  if #heap > 0 then sink(1) end
end
return reply
