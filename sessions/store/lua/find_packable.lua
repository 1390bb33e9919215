#!lua flags=no-writes
-- Reads the entries that are to become the next segment of the history.
-- KEYS
--   S: base of the session (reads :history and :mailbox lists, :waiting zset, :meta hash, :turn:<id> and
--      :turn:<id>:journal hashes)
-- ARGV
--   most: entries of a segment
--   most_bytes: of the entries of a segment, if it has more than one
-- Returns
--   packable: positions, packed, entries (positions: names a state of the history in which positions mean the same;
--      packed: the position of the first of the entries)
--   nothing (not enough entries are older than the window)
--!include session
--!include branches
--!include window
--!include segments
local before, total, entries = packed_entries(), 0, {}
local there = math.min(packable_upto() - before, tonumber(most), redis.call('LLEN', S .. ':history'))
for i = 0, there - 1 do
  entries[i + 1] = redis.call('LINDEX', S .. ':history', i)
  total = total + #entries[i + 1]
  if total > tonumber(most_bytes) then break end
end
if #entries < tonumber(most) and total <= tonumber(most_bytes) then return { 'nothing' } end
-- A power of two, so that most segments have the same size.
local count = tonumber(most)
while count > 1 and (count > #entries or total > tonumber(most_bytes)) do
  count, total = count / 2, 0
  for i = 1, math.min(count, #entries) do total = total + #entries[i] end
end
return { 'packable', state_of_positions(), before, { unpack(entries, 1, count) } }
