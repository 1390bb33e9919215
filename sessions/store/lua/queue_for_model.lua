#!lua flags=allow-oom
-- Gives a turn a place among those that wait for a model. It keeps the place if the provider refuses others meanwhile.
-- Runs at maxmemory (allow-oom): it writes little, and turns that run must be able to go on then.
-- KEYS
--   F: base of the fleet (writes :model:<digest> hash, :model:<digest>:queue zset, :models zset)
-- ARGV
--   model: digest of model and key
--   turn
--   first: 1 if the provider refused this turn's call, else 0: it comes before those that were not let through yet
--   jitter: from 0 to 1, so that two turns do not start at the same moment
--   patience_ms: how long the turn can wait; it gets no place if that is not long enough
-- Returns
--   queued: wait_ms
--!include clock
--!include rank
--!include model_limit
local now, key = now_ms(), limiter(model)
local queue = key .. ':queue'
local r = redis.call('HMGET', key, 'until', 'step', 'started')
if not r[1] then return { 'queued', 0 } end
if first == '1' then
  redis.call('ZADD', queue, 0, turn)
else
  redis.call('ZADD', queue, 'NX', now, turn)
end
local place = rank_in(queue, turn)
local due = due_at(tonumber(r[1]), tonumber(r[2]), tonumber(r[3]) + place + tonumber(jitter))
if due - now >= tonumber(patience_ms) then
  redis.call('ZREM', queue, turn)
else
  keep_limiter(model, due + RETURN_MS, now)
end
return { 'queued', math.max(0, due - now) }
