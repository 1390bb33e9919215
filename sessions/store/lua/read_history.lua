#!lua flags=no-writes
-- Reads a session as the session object of another library shows it: entries of the history, and what the library keeps
-- besides its messages. In one step, so that the revision is that of the entries.
-- KEYS
--   S: base of the session (reads :history and :segments lists, :meta, :shares, :state and :adapters hashes)
-- ARGV
--   user: id, or ''
--   adapter: its name
--   start: position of the first entry; negative from the end
--   stop: of the last one
--   with_state: 1 to read the state, else 0
-- Returns
--   history_found: revision, recorded, created_ms, used_ms, owner, length, count, segments, skip, entries, record, state
--      (recorded: the revision when the record was written; count, segments and skip as in read_entries)
--   missing (there is no such session)
--   other_owner (the session belongs to another user)
--!include session
--!include rights
--!include compaction
--!include branches
--!include window
--!include segments
local m = redis.call('HMGET', S .. ':meta', 'created', 'used', 'owner', 'recorded')
if not m[1] then return { 'missing' } end
if not allowed(user, 'read') then return { 'other_owner' } end
local count, segments, skip, entries = range(tonumber(start), tonumber(stop))
return {
  'history_found', history_revision(), m[4] or '', m[1], m[2] or m[1], m[3] or '', history_length(),
  count, segments, skip, entries, redis.call('HGET', S .. ':adapters', adapter) or '',
  with_state == '1' and redis.call('HGETALL', S .. ':state') or {},
}
