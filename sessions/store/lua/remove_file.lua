#!lua flags=allow-oom
-- Removes a file with its bytes.
-- KEYS
--   S: base of the session (writes :files hash, :file:<id> hash)
--   P: base of its partition
-- ARGV
--   file: its id
--   user: id, or ''
-- Returns
--   file_removed: found (1 if it was there)
--   other_owner (the session belongs to another user)
--!include session
--!include rights
if not allowed(user, 'write') then return { 'other_owner' } end
redis.call('UNLINK', file_key(file))
return { 'file_removed', redis.call('HDEL', S .. ':files', file) }
