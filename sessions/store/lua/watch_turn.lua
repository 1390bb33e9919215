#!lua flags=allow-oom
-- Has a client told of a turn: readers hear every event, waiters only its end.
-- KEYS 1 session base (writes :turn:<id> hash)
-- KEYS 2 partition base
-- ARGV 1 turn id · 2 client's nonce · 3 readers | waiters · 4 on | off
-- Returns watching, status | missing
--!include session
S, P = KEYS[1], KEYS[2]
local t = turn_key(ARGV[1])
local r = redis.call('HMGET', t, 'status', ARGV[3])
if not r[1] then return { 'missing' } end
if FINAL[r[1]] then return { 'watching', r[1] } end
local others = {}
for nonce in string.gmatch(r[2] or '', '%S+') do
  if nonce ~= ARGV[2] then others[#others + 1] = nonce end
end
if ARGV[4] == 'on' then
  while #others > 63 do table.remove(others, 1) end -- those look again by themselves, a little later
  others[#others + 1] = ARGV[2]
end
redis.call('HSET', t, ARGV[3], table.concat(others, ' '))
return { 'watching', r[1] }
