#!lua flags=allow-oom
-- Puts a segment in the place of the oldest entries of the history that are not in segments yet.
-- KEYS
--   S: base of the session (writes :history and :segments lists, :meta hash; reads :mailbox list, :waiting zset,
--      :turn:<id> and :turn:<id>:journal hashes)
--   P: base of its partition
-- ARGV
--   positions: the state of the history that the entries were read in
--   packed: the position of the first of them
--   count: how many they are
--   segment: their bytes, compressed
-- Returns
--   wrote_segment
--   moved (nothing was written: the history is in another state, or a turn needs them)
--!include session
--!include branches
--!include window
--!include segments
local first, number = tonumber(packed), tonumber(count)
if positions ~= state_of_positions() or first ~= packed_entries() then return { 'moved' } end
if first + number > packable_upto() or redis.call('LLEN', S .. ':history') < number then return { 'moved' } end
if first == 0 then redis.call('UNLINK', S .. ':segments') end -- of a session whose id this is now, deleted by an earlier version
redis.call('RPUSH', S .. ':segments', segment)
redis.call('LTRIM', S .. ':history', number, -1)
local runs = read_sizes()
add_run(runs, 1, number)
write_sizes(runs)
expire_with_session(S .. ':segments')
return { 'wrote_segment' }
