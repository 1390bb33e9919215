#!lua flags=allow-oom
-- Journals a finished step together with its events; without a field, appends events only.
-- KEYS
--   S: base of the session (writes :turn:<id>:journal hash, :turn:<id>:events stream, :turn:<id> hash, :files hash;
--      reads :lease, :turn:<id>:inbox)
--   P: base of its partition (publishes on :bell:<client>)
-- ARGV
--   turn
--   lease: its value
--   field: of the journal, or ''
--   value: of this field
--   first_seq: number of the first event
--   files[id]: that the step made part of the turn
--   events[kind, data]: data as JSON
-- Returns
--   ok
--   cancel (written, and a client asked to cancel this turn)
--   steer (written, and a message joined the turn that it has not read yet)
--   lost (nothing was written: the lease is no longer ours)
--!include clock
--!include session
--!include files
local t = turn_key(turn)
local r = redis.call('HMGET', t, 'owner', 'status', 'cancel', 'seq')
if redis.call('GET', S .. ':lease') ~= lease or r[1] ~= lease or r[2] ~= 'running' then return { 'lost' } end
if field ~= '' then redis.call('HSET', t .. ':journal', field, value) end
use_files(files)
local token, seq, last = string.match(lease, '^(%d+):'), tonumber(first_seq), nil
for i = 1, #events, 2 do
  last = add_event(turn, token, seq, events[i], events[i + 1])
  seq = seq + 1
end
if last then
  redis.call('HSET', t, 'seq', seq - 1)
  notify(turn, false)
end
-- Every event up to a finished step stays valid after a crash, for the replay of the step does not send them again.
if field ~= '' then redis.call('HSET', t, 'valid', last or (token .. '-' .. r[4])) end
if r[3] then return { 'cancel' } end
if field ~= '' and redis.call('EXISTS', t .. ':inbox') == 1 then return { 'steer' } end
return { 'ok' }
