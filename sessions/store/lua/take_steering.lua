#!lua flags=allow-oom
-- Takes the unread steering messages of a running turn: journalled and told to its readers in the same step, so that
-- a replay sees them at the same place.
-- KEYS 1 session base   (writes :turn:<id>:journal hash, :turn:<id>:inbox list, :turn:<id>:events stream,
--                        :turn:<id> hash; reads :lease string)
-- KEYS 2 partition base (publishes on :bell:<client>)
-- ARGV 1 turn id · 2 lease value · 3 journal field · 4 seq of the first event
-- Returns taken, messages (JSON array of texts), count | nothing | lost (nothing written)
--!include clock
--!include session
S, P = KEYS[1], KEYS[2]
local id, value, t = ARGV[1], ARGV[2], turn_key(ARGV[1])
local r = redis.call('HMGET', t, 'owner', 'status')
if redis.call('GET', S .. ':lease') ~= value or r[1] ~= value or r[2] ~= 'running' then return { 'lost' } end
local before = redis.call('HGET', t .. ':journal', ARGV[3])
if before then return { 'taken', before, #cjson.decode(before) } end -- sent again after a lost reply
local texts = {}
for _, entry in ipairs(redis.call('LRANGE', t .. ':inbox', 0, -1)) do texts[#texts + 1] = cjson.decode(entry).text end
if #texts == 0 then return { 'nothing' } end
local token, seq, last = string.match(value, '^(%d+):'), tonumber(ARGV[4]), nil
for i, text in ipairs(texts) do last = add_event(id, token, seq + i - 1, 'steered', cjson.encode({ text = text })) end
local said = cjson.encode(texts)
redis.call('HSET', t .. ':journal', ARGV[3], said)
redis.call('DEL', t .. ':inbox')
redis.call('HSET', t, 'seq', seq + #texts - 1, 'valid', last)
ring(id, false)
return { 'taken', said, #texts }
