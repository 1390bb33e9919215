-- Changing the fields of a state hash. Operations come as four arguments each: kind, field, a, b.

local function number(text)
  return text and string.match(text, '^-?%d') and tonumber(text) or nil
end

local function same(one, other)
  return one == other or (number(one) ~= nil and number(one) == number(other))
end

-- Why an operation cannot be done: mismatch | type, or nil.
local function objection(state, kind, field, a)
  local value = redis.call('HGET', state, field)
  if kind == 'swap' and not ((a == '' and not value) or (value and a ~= '' and same(value, a))) then
    return 'mismatch', value
  end
  if kind == 'increment' and value and not number(value) then return 'type', value end
end

local function change(state, kind, field, a, b)
  if kind == 'set' then
    redis.call('HSET', state, field, a)
  elseif kind == 'swap' then
    redis.call('HSET', state, field, b)
  elseif kind == 'delete' then
    redis.call('HDEL', state, field)
  elseif kind == 'increment' then
    local value = redis.call('HGET', state, field) or b
    redis.call('HSET', state, field, value)
    if string.match(value, '^-?%d+$') and string.match(a, '^-?%d+$') then
      redis.call('HINCRBY', state, field, a)
    else
      redis.call('HINCRBYFLOAT', state, field, a)
    end
  end
end
