#!lua flags=allow-oom
-- Puts the entries of the newest segment back into the list of entries, for something needs them there.
-- KEYS
--   S: base of the session (writes :history and :segments lists, :meta hash)
--   P: base of its partition
-- ARGV
--   positions: the state of the history that the segment was read in
--   packed: how many entries were in segments then
--   entries[]: of the segment
-- Returns
--   unpacked
--   moved (nothing was written: the history is in another state)
--!include session
--!include branches
--!include window
--!include segments
if positions ~= state_of_positions() or tonumber(packed) ~= packed_entries() then return { 'moved' } end
local runs = read_sizes()
local last = runs[#runs]
if not last or last[2] ~= #entries then return { 'moved' } end
for i = #entries, 1, -1 do redis.call('LPUSH', S .. ':history', entries[i]) end
redis.call('LTRIM', S .. ':segments', 0, -2)
last[1] = last[1] - 1
if last[1] == 0 then runs[#runs] = nil end
write_sizes(runs)
redis.call('HINCRBY', S .. ':meta', 'unpacked', 1)
expire_with_session(S .. ':history')
return { 'unpacked' }
