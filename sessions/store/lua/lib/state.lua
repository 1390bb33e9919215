-- Changes to the fields of a state hash. An operation has four parts: kind, field, a, b.

local WHOLE = 9e18 -- up to here the server adds integers exactly; larger ones are added as floats

local function number(text)
  return text and string.match(text, '^-?%d') and tonumber(text) or nil
end

-- 5 and 5.0 are the same. Two integers are compared as texts: as floats, long integers that differ would look equal.
local function same(one, other)
  if one == other then return true end
  local both_whole = string.match(one, '^-?%d+$') and string.match(other, '^-?%d+$')
  return not both_whole and number(one) ~= nil and number(one) == number(other)
end

-- Why an operation is impossible (mismatch | type | range), and the value in its way; or nil. A script that fails half-way
-- keeps what it wrote, so every operation is checked first, and `change` never fails for one that passed.
-- `ahead` holds the values that the operations checked so far will leave.
local function objection(state, ahead, kind, field, a, b)
  local value = ahead[field]
  if value == nil then value = redis.call('HGET', state, field) end
  if kind == 'swap' and not ((a == '' and not value) or (value and a ~= '' and same(value, a))) then
    return 'mismatch', value
  elseif kind == 'increment' then
    if value and not number(value) then return 'type', value end
    local sum = number(value or b) + number(a)
    if math.abs(sum) > 1.7e308 or math.abs(number(value or b)) > 1.7e308 then return 'range', value or b end
    ahead[field] = string.format('%.17g', sum)
  elseif kind == 'delete' then
    ahead[field] = false
  else
    ahead[field] = kind == 'set' and a or b
  end
end

local function whole(text)
  return string.match(text, '^-?%d+$') and math.abs(tonumber(text)) < WHOLE
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
    if whole(value) and whole(a) and math.abs(tonumber(value) + tonumber(a)) < WHOLE then
      redis.call('HINCRBY', state, field, a)
    else
      redis.call('HINCRBYFLOAT', state, field, a)
    end
  end
end
