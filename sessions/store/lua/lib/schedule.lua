-- A session's schedules: their rules and what became of their ticks (:schedules:state), and when each is due next
-- (:schedules:due). A tick is compared and set: who acts on one that another worker has acted on changes nothing.

local function schedule_state(id)
  local raw = redis.call('HGET', S .. ':schedules:state', id)
  return raw and cjson.decode(raw)
end

local function keep_schedule(id, state)
  redis.call('HSET', S .. ':schedules:state', id, cjson.encode(state))
end

-- Is the schedule due at this very time? If so, nobody has acted on the tick yet.
local function is_due(id, at)
  return tonumber(redis.call('ZSCORE', S .. ':schedules:due', id) or '') == tonumber(at)
end

-- When the schedule is due next; '' for never: it is paused, or its expression names no further time.
local function set_due(id, next)
  if next == '' then
    redis.call('ZREM', S .. ':schedules:due', id)
  else
    redis.call('ZADD', S .. ':schedules:due', next, id)
  end
end

-- The turn of the schedule's previous tick has not ended.
local function runs_still(state)
  local status = state.last_turn and redis.call('HGET', S .. ':turn:' .. state.last_turn, 'status')
  return status and not FINAL[status]
end
