#!lua flags=allow-oom
-- Takes the unread messages that joined a running turn: they are journalled and sent to its readers in the same step, so
-- that a replay sees them at the same place.
-- KEYS
--   S: base of the session (writes :turn:<id>:journal hash, :turn:<id>:inbox list, :turn:<id>:events stream,
--      :turn:<id> hash; reads :lease string)
--   P: base of its partition (publishes on :bell:<client>)
-- ARGV
--   turn
--   lease: its value
--   field: of the journal
--   first_seq: number of the first event
--   encrypted: '' without encryption; else the messages that the worker read, encrypted for the journal, for this script
--      cannot decrypt them
--   events[data]: data of each event, if encrypted
-- Returns
--   taken: messages (JSON array: each a text, or an object with `text` and `parts`, which is JSON in JSON)
--   nothing (there are no unread messages)
--   lost (nothing was written: the lease is no longer ours)
--!include clock
--!include session
local t = turn_key(turn)
local r = redis.call('HMGET', t, 'owner', 'status')
if redis.call('GET', S .. ':lease') ~= lease or r[1] ~= lease or r[2] ~= 'running' then return { 'lost' } end
local before = redis.call('HGET', t .. ':journal', field)
if before then return { 'taken', before } end -- Retry after a lost reply.
local journalled = encrypted
if encrypted == '' then
  local messages = {}
  for i, entry in ipairs(redis.call('LRANGE', t .. ':inbox', 0, -1)) do
    local m = cjson.decode(entry)
    messages[i] = m.parts and { text = m.text, parts = m.parts } or m.text
    events[i] = cjson.encode({ text = m.text, parts = m.parts and cjson.decode(m.parts) or nil })
  end
  journalled = cjson.encode(messages)
end
local count = #events
if count == 0 then return { 'nothing' } end
local token, seq, last = string.match(lease, '^(%d+):'), tonumber(first_seq), nil
for i, data in ipairs(events) do last = add_event(turn, token, seq + i - 1, 'steered', data) end
redis.call('HSET', t .. ':journal', field, journalled)
redis.call('LTRIM', t .. ':inbox', count, -1) -- another message may have arrived since they were read
redis.call('HSET', t, 'seq', seq + count - 1, 'valid', last)
notify(turn, false)
return { 'taken', journalled }
