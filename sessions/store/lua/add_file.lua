#!lua
-- Lists a file whose pieces are sent next, by add_file_piece. Creates the session if it does not exist, unless a turn adds
-- the file.
-- KEYS
--   S: base of the session (writes :meta hash, :files hash, :file:<id> hash; reads :turn:<id> hash)
--   P: base of its partition
-- ARGV
--   file: its id
--   user: id, or ''
--   turn: the open turn that adds it, or ''; an accepted turn runs to its end, whatever its user may still do
--   session_ttl_ms: '' leaves the session's ttl as it is
--   size: in bytes
--   pieces: how many there are
--   details: name, media type and time
--   unused_ms: how long it is kept if no turn uses it
--   most: largest number of files
--   most_bytes: largest sum of their sizes
-- Returns
--   file_listed: complete (1: all its pieces are there already, none need be sent)
--   files_full: count, bytes (of the files that are there)
--   other_owner (the session belongs to another user)
--   missing (nothing was written: the turn has ended, or was deleted with its session)
--!include clock
--!include session
--!include rights
--!include files
local meta, all, now = S .. ':meta', S .. ':files', now_ms()
if turn == '' then
  if not allowed(user, 'write') then return { 'other_owner' } end
else
  local status = redis.call('HGET', turn_key(turn), 'status')
  if not status or FINAL[status] then return { 'missing' } end
end
local before, count, bytes = nil, 0, 0
local flat = redis.call('HGETALL', all)
for i = 1, #flat, 2 do
  local its_size, _, unused_until = file_of(flat[i + 1])
  if unused_until > 0 and unused_until <= now then -- nobody used it in time
    redis.call('HDEL', all, flat[i])
    redis.call('UNLINK', file_key(flat[i]))
  elseif flat[i] == file then
    before = unused_until
  else
    count, bytes = count + 1, bytes + its_size
  end
end
if not before and (count >= tonumber(most) or bytes + size > tonumber(most_bytes)) then
  return { 'files_full', count, bytes }
end
redis.call('HSETNX', meta, 'created', now)
if user ~= '' then redis.call('HSETNX', meta, 'owner', user) end
set_ttl(session_ttl_ms)
if before ~= 0 then
  -- Not longer than the session, or its bytes would outlive the list of files.
  local ttl = tonumber(redis.call('HGET', meta, 'ttl') or '') or 0
  local unused_until = now + (ttl > 0 and math.min(unused_ms, ttl) or unused_ms)
  redis.call('HSET', all, file, size .. ',' .. pieces .. ',' .. string.format('%d', unused_until) .. ':' .. details)
  redis.call('PEXPIREAT', file_key(file), unused_until)
end
note_use(now)
return { 'file_listed', has_file(file) and 1 or 0 }
