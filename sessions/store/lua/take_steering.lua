#!lua flags=allow-oom
-- Takes the unread steering messages of a running turn: journalled and told to its readers in the same step, so that
-- a replay sees them at the same place.
-- KEYS 1 session base   (writes :turn:<id>:journal hash, :turn:<id>:inbox list, :turn:<id>:events stream,
--                        :turn:<id> hash; reads :lease string)
-- KEYS 2 partition base (publishes on :bell:<client>)
-- ARGV 1 turn id · 2 lease value · 3 journal field · 4 seq of the first event
--      5 where there are keys, which a script has not: how many messages were read · 6 their texts, sealed for the
--      journal · 7... data of each event
-- Returns taken, messages (JSON array of texts) | nothing | lost (nothing written)
--!include clock
--!include session
S, P = KEYS[1], KEYS[2]
local id, value, t = ARGV[1], ARGV[2], turn_key(ARGV[1])
local r = redis.call('HMGET', t, 'owner', 'status')
if redis.call('GET', S .. ':lease') ~= value or r[1] ~= value or r[2] ~= 'running' then return { 'lost' } end
local before = redis.call('HGET', t .. ':journal', ARGV[3])
if before then return { 'taken', before } end -- sent again after a lost reply
local said, told, count = ARGV[6], {}, tonumber(ARGV[5])
if count then
  for i = 7, #ARGV do told[#told + 1] = ARGV[i] end
else
  local texts = {}
  for _, entry in ipairs(redis.call('LRANGE', t .. ':inbox', 0, -1)) do texts[#texts + 1] = cjson.decode(entry).text end
  for _, text in ipairs(texts) do told[#told + 1] = cjson.encode({ text = text }) end
  said, count = cjson.encode(texts), #texts
end
if count == 0 then return { 'nothing' } end
local token, seq, last = string.match(value, '^(%d+):'), tonumber(ARGV[4]), nil
for i, data in ipairs(told) do last = add_event(id, token, seq + i - 1, 'steered', data) end
redis.call('HSET', t .. ':journal', ARGV[3], said)
redis.call('LTRIM', t .. ':inbox', count, -1) -- one may have come since they were read
redis.call('HSET', t, 'seq', seq + count - 1, 'valid', last)
ring(id, false)
return { 'taken', said }
