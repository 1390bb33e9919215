#!lua flags=allow-oom
-- Removes memories of a session or a user. The last one takes the log and the vectors with it: no key is left.
-- KEYS 1 base of what remembers   (writes :memory hash, :memory:log stream, :memory:vectors hash, :op:<id> string;
--                                  of a session reads :meta hash)
-- KEYS 2 partition base
-- ARGV 1 operation id: sent again after a lost reply, it changes nothing and gets the same reply
--      2 session | wide (a user's) · 3 user id, or '' · 4 how long the operation id is remembered (ms)
--      5... ids of memories; none: all of them
-- Returns removed, how many | owner
--!include clock
--!include session
--!include memory
S, P = KEYS[1], KEYS[2]
local all, vectors, done = S .. ':memory', S .. ':memory:vectors', S .. ':op:' .. ARGV[1]
local before = redis.call('GET', done)
if before then return { 'removed', before } end
if ARGV[2] == 'session' then
  local owner = redis.call('HGET', S .. ':meta', 'owner')
  if ARGV[3] ~= '' and owner and owner ~= ARGV[3] then return { 'owner' } end
end
local removed = 0
if #ARGV == 4 then
  removed = redis.call('HLEN', all)
  redis.call('UNLINK', all)
end
for i = 5, #ARGV do
  if redis.call('HDEL', all, ARGV[i]) == 1 then
    redis.call('HDEL', vectors, ARGV[i])
    note_change('remove', ARGV[i])
    removed = removed + 1
  end
end
if redis.call('EXISTS', all) == 0 then redis.call('UNLINK', vectors, S .. ':memory:log') end
if ARGV[2] == 'session' then set_expiry(now_ms()) end
redis.call('SET', done, removed, 'PX', ARGV[4])
return { 'removed', removed }
