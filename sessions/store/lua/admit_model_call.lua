#!lua flags=allow-oom
-- Asks whether a model may be called, after a provider has refused calls for its rate limit.
-- Runs at maxmemory (allow-oom): it writes little, and turns that run must be able to go on then.
-- KEYS
--   F: base of the fleet (writes :model:<digest> hash, :model:<digest>:queue zset, :models zset)
-- ARGV
--   model: digest of model and key
--   turn: whose call it is
-- Returns
--   free (nothing holds this model's calls back any more)
--   started (this call may start)
--   held: wait_ms (not before)
--!include clock
--!include rank
--!include model_limit
local now, key = now_ms(), limiter(model)
local queue = key .. ':queue'
local r = redis.call('HMGET', key, 'until', 'step', 'started')
if not r[1] then
  redis.call('ZREM', F .. ':models', model)
  return { 'free' }
end
local until_ms, step_ms, started = tonumber(r[1]), tonumber(r[2]), tonumber(r[3])
local place = rank_in(queue, turn) or redis.call('ZCARD', queue)
local due = due_at(until_ms, step_ms, started + place)
if due > now then return { 'held', due - now } end
local late = math.min(2 ^ ((now - LATE_MS - until_ms) / step_ms), 1000000) - 1 - started
if late >= 1 then
  for _, absent in ipairs(redis.call('ZRANGE', queue, 0, math.min(math.floor(late), place) - 1)) do
    redis.call('ZREM', queue, absent)
  end
end
redis.call('ZREM', queue, turn)
redis.call('HINCRBY', key, 'started', 1)
return { 'started' }
