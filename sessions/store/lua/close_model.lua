#!lua flags=allow-oom
-- A provider refused a call for its rate limit, and said when to ask again: until then no worker asks this model.
-- Runs at maxmemory (allow-oom): it writes little, and turns that run must be able to go on then.
-- KEYS
--   F: base of the fleet (writes :model:<digest> hash, :model:<digest>:queue zset, :models zset)
-- ARGV
--   model: digest of model and key
--   pause_ms: how long the provider wants no calls
-- Returns
--   closed: wait_ms
--!include clock
--!include model_limit
local now, key = now_ms(), limiter(model)
local until_ms = now + tonumber(pause_ms)
local known = tonumber(redis.call('HGET', key, 'until') or '') or 0
if until_ms > known then
  redis.call('HSET', key, 'until', until_ms, 'step', step_of(pause_ms), 'started', 0)
else
  until_ms = known
end
keep_limiter(model, until_ms + RAMP * redis.call('HGET', key, 'step'), now)
return { 'closed', until_ms - now }
