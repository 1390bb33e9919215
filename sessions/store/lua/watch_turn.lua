#!lua flags=allow-oom
-- Adds a client to those that a turn notifies, or removes it. Readers are notified of every event, waiters of the end.
-- KEYS
--   S: base of the session (writes :turn:<id> hash)
--   P: base of its partition
-- ARGV
--   turn
--   nonce: of the client
--   watch: readers | waiters
--   on: 1 to add it, 0 to remove it
-- Returns
--   watching: status
--   missing (there is no such turn)
--!include session
local t = turn_key(turn)
local r = redis.call('HMGET', t, 'status', watch)
if not r[1] then return { 'missing' } end
if FINAL[r[1]] then return { 'watching', r[1] } end
local others = {}
for other in string.gmatch(r[2] or '', '%S+') do
  if other ~= nonce then others[#others + 1] = other end
end
if on == '1' then
  while #others > 63 do table.remove(others, 1) end -- those look again by themselves, a little later
  others[#others + 1] = nonce
end
redis.call('HSET', t, watch, table.concat(others, ' '))
return { 'watching', r[1] }
