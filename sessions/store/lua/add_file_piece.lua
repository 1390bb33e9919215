#!lua
-- Stores one piece of a file that add_file has listed. A piece that is there already stays as it is.
-- At maxmemory the server refuses this script (no allow-oom), on purpose.
-- KEYS
--   S: base of the session (writes :file:<id> hash; reads :files hash)
--   P: base of its partition
-- ARGV
--   file: its id
--   number: of the piece, from 0
--   piece: its bytes
-- Returns
--   piece_added
--   missing (the file is not listed any more: it or its session was deleted)
--!include session
local _, _, unused_until = file_of(redis.call('HGET', S .. ':files', file))
if not unused_until then return { 'missing' } end
redis.call('HSETNX', file_key(file), number, piece)
if unused_until > 0 then redis.call('PEXPIREAT', file_key(file), unused_until) end
return { 'piece_added' }
