-- The limiter of one model and key. It is closed until the time that the provider named; then calls start in the order in
-- which their turns queued: the n-th one log2(n) steps later, so that each step starts twice as many as the one before. A
-- provider that still refuses has then got one call, not all. A step is a tenth of the pause, at most a second.
local RAMP = 10 -- steps: a thousand calls have started, and from then on nothing is held back
local LATE_MS = 5000 -- a turn that is not back by then has ended, or asked another model
local RETURN_MS = 60000

local function limiter(model) return F .. ':model:' .. model end

-- When the call may start that comes after so many others.
local function due_at(until_ms, step_ms, before)
  return math.ceil(until_ms + step_ms * math.log(1 + before) / math.log(2))
end

local function step_of(pause_ms) return math.max(100, math.min(1000, math.floor(pause_ms / 10))) end

-- Keep what is known about the model at least until this time.
local function keep_limiter(model, at, now)
  local key = limiter(model)
  at = math.max(at, now + redis.call('PTTL', key))
  redis.call('PEXPIREAT', key, at)
  redis.call('PEXPIREAT', key .. ':queue', at)
  redis.call('ZADD', F .. ':models', at, model)
  redis.call('PEXPIREAT', F .. ':models', math.max(at, now + redis.call('PTTL', F .. ':models')))
end
