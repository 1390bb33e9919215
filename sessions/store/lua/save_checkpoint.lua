#!lua
-- Writes a numbered checkpoint: state, agents' configurations, the positions in history and in the log of memories, as
-- they are in one moment.
-- KEYS 1 session base   (writes :checkpoints hash, :meta hash, :state hash, :op:<id> string;
--                        reads :agents hash, :history list, :memory hash, :memory:log stream)
-- KEYS 2 partition base
-- ARGV 1 operation id: sent again after a lost reply, it changes nothing · 2 user id, or '' · 3 checkpoints to keep
--      4 session ttl (ms; '' leaves it) · 5... field, value (JSON): merged into the state first
-- Returns saved, number | owner
--!include clock
--!include session
S, P = KEYS[1], KEYS[2]
local now, meta, all = now_ms(), S .. ':meta', S .. ':checkpoints'
local done = S .. ':op:' .. ARGV[1]
local before = redis.call('GET', done)
if before then return { 'saved', before } end
local owner = redis.call('HGET', meta, 'owner')
if ARGV[2] ~= '' and owner and owner ~= ARGV[2] then return { 'owner' } end
for i = 5, #ARGV, 2 do redis.call('HSET', S .. ':state', ARGV[i], ARGV[i + 1]) end
redis.call('HSETNX', meta, 'created', now)
if ARGV[2] ~= '' then redis.call('HSETNX', meta, 'owner', ARGV[2]) end
set_ttl(ARGV[4])
local number = redis.call('HINCRBY', meta, 'checkpoint', 1)

-- The parts are JSON already; they are kept as texts, so that nothing is read and written again on the way.
local function fields(key)
  local flat, found = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return found
end

-- The documents of the session's own knowledge, whose lane is in the same slot.
local documents = {}
local own = redis.call('HGET', S .. '~knowledge:meta', 'of') == redis.call('HGET', meta, 'created')
for _, name in ipairs(own and redis.call('HKEYS', S .. '~knowledge:sources') or {}) do
  if string.sub(name, 1, 1) ~= '#' then documents[#documents + 1] = name end
end
local newest = redis.call('XREVRANGE', S .. ':memory:log', '+', '-', 'COUNT', 1)[1]
redis.call('HSET', all, number, cjson.encode({
  v = 1, number = number, at = now, state = fields(S .. ':state'), agents = fields(S .. ':agents'),
  history = redis.call('LLEN', S .. ':history'),
  messages = tonumber(redis.call('HGET', meta, 'messages') or '') or 0,
  memory = { count = redis.call('HLEN', S .. ':memory'), version = newest and newest[1] or nil },
  knowledge = documents,
}))
redis.call('HDEL', all, number - ARGV[3])
redis.call('SET', done, number, 'PX', 60000)
set_expiry(now)
return { 'saved', number }
