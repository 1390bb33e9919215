#!lua flags=no-writes
-- Reads entries of the history by position, in one step.
-- KEYS
--   S: base of the session (reads :history and :segments lists, :meta hash)
-- ARGV
--   start: position of the first entry; negative from the end
--   stop: of the last one
-- Returns
--   entries_found: positions, version, packed, length, count, segments, skip, entries (positions: names a state of the
--      history in which positions mean the same; packed: how many entries are in segments; count: how many were asked for
--      and are there; the first of them are in the segments, after `skip` others)
--!include session
--!include branches
--!include window
--!include segments
local version = redis.call('HGET', S .. ':meta', 'history_version') or '0'
return {
  'entries_found', state_of_positions(), version, packed_entries(), history_length(),
  range(tonumber(start), tonumber(stop)),
}
