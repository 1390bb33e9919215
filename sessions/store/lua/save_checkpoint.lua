#!lua
-- Writes a numbered checkpoint: state, agents' configurations, and the positions in history and in the log of memories,
-- all as they are at one moment.
-- KEYS
--   S: base of the session (writes :checkpoints hash, :meta hash, :state hash, :op:<id> string;
--      reads :agents hash, :history list, :memory hash, :memory:log stream)
--   P: base of its partition (writes the indexes of sessions)
-- ARGV
--   operation: its id; a retry after a lost reply changes nothing
--   user: id, or ''
--   kept: how many checkpoints to keep
--   session_ttl_ms: '' leaves the session's ttl as it is
--   merge[field, value]: written into the state first; value as JSON
-- Returns
--   saved: number
--   other_owner (the session belongs to another user)
--!include clock
--!include session
--!include rights
--!include branches
local now, meta, all = now_ms(), S .. ':meta', S .. ':checkpoints'
local done = S .. ':op:' .. operation
local before = redis.call('GET', done)
if before then return { 'saved', before } end
if not allowed(user, 'write') then return { 'other_owner' } end
for i = 1, #merge, 2 do redis.call('HSET', S .. ':state', merge[i], merge[i + 1]) end
redis.call('HSETNX', meta, 'created', now)
if user ~= '' then redis.call('HSETNX', meta, 'owner', user) end
set_ttl(session_ttl_ms)
local number = redis.call('HINCRBY', meta, 'checkpoint', 1)

-- The values are JSON already. They are stored as texts, so that decoding and encoding cannot change them.
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
  history = history_length(),
  messages = tonumber(redis.call('HGET', meta, 'messages') or '') or 0,
  memory = { count = redis.call('HLEN', S .. ':memory'), version = newest and newest[1] or nil },
  knowledge = documents,
}))
redis.call('HDEL', all, number - kept)
redis.call('SET', done, number, 'PX', 60000)
note_use(now)
return { 'saved', number }
