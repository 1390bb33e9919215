#!lua flags=allow-oom
-- Notes what a turn has spent so far, and reserves what its next model request may cost, if the budget allows that.
-- Everything a turn says is its sum so far and not a difference, so saying it again after a crash or a lost reply changes
-- nothing.
-- Runs at maxmemory (allow-oom): it writes little, and a turn must be able to end then.
-- KEYS
--   B: base of a user's or a tenant's budget (writes :spent:<day> hash, :open:<day> hash, :ended:<day> zset)
-- ARGV
--   day
--   turn
--   token: fencing token of its lease
--   tokens: that the turn has spent
--   nanodollars: that it has spent
--   more_tokens: to reserve
--   more_nanodollars: to reserve
--   most_tokens: the budget; '' for no limit
--   most_nanodollars: the budget; '' for no limit
--   reserved_ms: how long the reservation lasts if nothing is heard of the turn
--   kept_ms: how long the counters are kept
--   ended: 1 if the turn has ended, so that nothing more is to come
-- Returns
--   noted
--   stale (nothing was written: the turn has ended, or another worker has it)
--   exceeded: unit, used (what is spent is noted, but nothing reserved; unit: tokens | nanodollars; used: by others and
--      the turn itself, with what is reserved)
--!include clock
local now = now_ms()
local spent, open, over = B .. ':spent:' .. day, B .. ':open:' .. day, B .. ':ended:' .. day

-- An open turn's entry: token, tokens and nanodollars that it has spent, the same that it has reserved, and until when.
local function entry_of(raw)
  local e = {}
  for number in string.gmatch(raw or '', '[^,]+') do e[#e + 1] = tonumber(number) end
  return { token = e[1] or 0, t = e[2] or 0, n = e[3] or 0, rt = e[4] or 0, rn = e[5] or 0, reserved_until = e[6] or 0 }
end

local function put(id, e)
  redis.call('HSET', open, id, string.format('%.0f,%.0f,%.0f,%.0f,%.0f,%.0f', e.token, e.t, e.n, e.rt, e.rn, e.reserved_until))
end

local function add(t, n)
  -- + 0, because the negative of nothing is written -0, which HINCRBY refuses.
  redis.call('HINCRBY', spent, 'tokens', string.format('%.0f', t + 0))
  redis.call('HINCRBY', spent, 'nanodollars', string.format('%.0f', n + 0))
end

-- Releases what turns have reserved that nobody has heard of, such as turns of deleted sessions.
local function release_old()
  local flat = redis.call('HGETALL', open)
  for i = 1, #flat, 2 do
    local e = entry_of(flat[i + 1])
    if e.rt + e.rn > 0 and e.reserved_until < now then
      add(-e.rt, -e.rn)
      e.rt, e.rn = 0, 0
      put(flat[i], e)
    end
  end
end

local function exceeded(more_t, more_n)
  local used = redis.call('HMGET', spent, 'tokens', 'nanodollars')
  local t, n = tonumber(used[1] or '') or 0, tonumber(used[2] or '') or 0
  if most_tokens ~= '' and t + more_t > tonumber(most_tokens) then return { 'exceeded', 'tokens', string.format('%.0f', t) } end
  if most_nanodollars ~= '' and n + more_n > tonumber(most_nanodollars) then
    return { 'exceeded', 'nanodollars', string.format('%.0f', n) }
  end
  return nil
end

if redis.call('ZSCORE', over, turn) then return { 'stale' } end
local e = entry_of(redis.call('HGET', open, turn))
if tonumber(token) < e.token then return { 'stale' } end
local t, n = tonumber(tokens), tonumber(nanodollars)
add(t - e.t - e.rt, n - e.n - e.rn)
e = { token = tonumber(token), t = t, n = n, rt = 0, rn = 0, reserved_until = 0 }
local more_t, more_n = tonumber(more_tokens), tonumber(more_nanodollars)
local refusal
if more_t + more_n > 0 then
  refusal = exceeded(more_t, more_n)
  if refusal then
    release_old()
    refusal = exceeded(more_t, more_n)
  end
  if not refusal then
    add(more_t, more_n)
    e.rt, e.rn, e.reserved_until = more_t, more_n, now + tonumber(reserved_ms)
  end
end
if ended == '1' then
  redis.call('HDEL', open, turn)
  -- A worker that was suspended may send an older note after this. It is refused for an hour.
  redis.call('ZADD', over, now, turn)
  redis.call('ZREMRANGEBYSCORE', over, '-inf', now - 3600000)
  redis.call('PEXPIRE', over, kept_ms)
else
  put(turn, e)
  redis.call('PEXPIRE', open, kept_ms)
end
redis.call('PEXPIRE', spent, kept_ms)
if refusal then return refusal end
return { 'noted' }
