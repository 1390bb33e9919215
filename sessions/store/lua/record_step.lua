#!lua flags=allow-oom
-- Journals a finished step and its events in one step; without a field, appends events only.
-- KEYS 1 session base   (writes :turn:<id>:journal hash, :turn:<id>:events stream, :turn:<id> hash; reads :lease, :turn:<id>:inbox)
-- KEYS 2 partition base (publishes on :bell:<client>)
-- ARGV 1 turn id · 2 lease value · 3 journal field, or '' · 4 value · 5 seq of the first event
--      6... type, data (JSON) of each event
-- Returns ok | cancel (written, and a client asked to cancel this turn) | steer (written, and there is unread
--      steering) | lost (nothing written)
--!include clock
--!include session
S, P = KEYS[1], KEYS[2]
local id, value, t = ARGV[1], ARGV[2], turn_key(ARGV[1])
local r = redis.call('HMGET', t, 'owner', 'status', 'cancel', 'seq')
if redis.call('GET', S .. ':lease') ~= value or r[1] ~= value or r[2] ~= 'running' then return { 'lost' } end
if ARGV[3] ~= '' then redis.call('HSET', t .. ':journal', ARGV[3], ARGV[4]) end
local token, seq, last = string.match(value, '^(%d+):'), tonumber(ARGV[5]), nil
for i = 6, #ARGV, 2 do
  last = add_event(id, token, seq, ARGV[i], ARGV[i + 1])
  seq = seq + 1
end
if last then
  redis.call('HSET', t, 'seq', seq - 1)
  ring(id, false)
end
-- All that was said before a finished step stays valid after a crash: its replay does not say it again (P5).
if ARGV[3] ~= '' then redis.call('HSET', t, 'valid', last or (token .. '-' .. r[4])) end
if r[3] then return { 'cancel' } end
if ARGV[3] ~= '' and redis.call('EXISTS', t .. ':inbox') == 1 then return { 'steer' } end
return { 'ok' }
