#!lua
-- Adds a memory to a session or a user, or replaces the one of its id. Refused at maxmemory, on purpose (no allow-oom).
-- KEYS 1 base of what remembers   (writes :memory hash, :memory:log stream, :memory:vectors hash, :op:<id> string;
--                                  of a session also :meta hash)
-- KEYS 2 partition base
-- ARGV 1 operation id: sent again after a lost reply, it changes nothing and gets the same reply
--      2 session | wide (a user's) · 3 user id, or '' · 4 session ttl (ms; '' leaves it)
--      5 how long the operation id is remembered (ms) · 6 memory id · 7 the memory, which no script looks into
--      8 most memories that there may be
-- Returns ok, memories there are | owner | full, memories there are
--!include clock
--!include session
--!include memory
S, P = KEYS[1], KEYS[2]
local all, done = S .. ':memory', S .. ':op:' .. ARGV[1]
local before = redis.call('GET', done)
if before then return { 'ok', before } end
if ARGV[2] == 'session' then
  local owner = redis.call('HGET', S .. ':meta', 'owner')
  if ARGV[3] ~= '' and owner and owner ~= ARGV[3] then return { 'owner' } end
end
local count = redis.call('HLEN', all)
if count >= tonumber(ARGV[8]) and redis.call('HEXISTS', all, ARGV[6]) == 0 then return { 'full', count } end

count = count + redis.call('HSET', all, ARGV[6], ARGV[7])
redis.call('HDEL', S .. ':memory:vectors', ARGV[6]) -- of the text that stood here before
note_change('add', ARGV[6])
if ARGV[2] == 'session' then
  local now = now_ms()
  redis.call('HSETNX', S .. ':meta', 'created', now)
  if ARGV[3] ~= '' then redis.call('HSETNX', S .. ':meta', 'owner', ARGV[3]) end
  set_ttl(ARGV[4])
  set_expiry(now)
end
redis.call('SET', done, count, 'PX', ARGV[5])
return { 'ok', count }
