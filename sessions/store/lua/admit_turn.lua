#!lua
-- Admits a turn if the limits of its tenant and of its user allow it: asked before the turn is accepted in its own slot.
-- The turn is a member of what each limit counts, so that asking again counts it once. That a turn has ended is in its
-- record, which is in another slot: the caller looks there, before a limit refuses.
-- KEYS
--   T: base of the tenant's limits (writes :minute zset, :flight zset, :open zset; the same with ~<user>)
-- ARGV
--   turn: <session>~<id>
--   user: escaped, or ''
--   later: 1 if the turn is not to begin now, so is not in flight; else 0
--   tenant_minute: most turns in a minute; 0 for no limit, as for all that follow
--   tenant_flight: most turns in flight
--   tenant_open: most open turns
--   user_minute
--   user_flight
--   user_open
--   look: 1 to name turns to look for before refusing, else 0
--   ended[]: turns whose records say that they have ended
--   missing[]: turns without a record; they are still being accepted, if they were admitted a moment ago
--   waiting[]: turns that wait for an answer, or for their time, so are not in flight
--   running[]: turns that were looked for and are in flight or queued
-- Returns
--   admitted
--   minute: whose, wait_ms (nothing was counted; whose limit it is: tenant | user)
--   full: what, whose (flight | open; the turn only counts among those of the minute: it may be a message for a running one)
--   look_for: turns[] (nothing was counted; perhaps some have ended: ask again with what their records say)
--!include clock
local MINUTE_MS = 60000
local ACCEPTED_MS = 60000 -- the acceptance of a turn takes no longer
local LOOKED_MS = 1000 -- a turn was looked for so recently that it is not looked for again
local MANY = 100
local IDLE_MS = 2592000000 -- 30 days after the last turn was admitted nothing is left
local now = now_ms()

-- Members have the time at which they were admitted or last looked for.
local SETS = { minute = T .. ':minute', flight = T .. ':flight', open = T .. ':open' }
local function counted(what, of)
  return SETS[what] .. (of == 'user' and '~' .. user or '')
end

local function forget(what, of, turns)
  if of == 'user' and user == '' then return end
  local key = counted(what, of)
  for _, id in ipairs(turns) do redis.call('ZREM', key, id) end
end

local function forget_missing(key)
  for _, id in ipairs(missing) do
    local at = tonumber(redis.call('ZSCORE', key, id) or '')
    if at and at < now - ACCEPTED_MS then redis.call('ZREM', key, id) end
  end
end

local function take_note(of)
  if of == 'user' and user == '' then return end
  for _, what in ipairs({ 'flight', 'open' }) do
    local key = counted(what, of)
    forget(what, of, ended)
    forget_missing(key)
    for _, id in ipairs(running) do redis.call('ZADD', key, 'XX', now, id) end
  end
  forget('flight', of, waiting)
  for _, id in ipairs(waiting) do redis.call('ZADD', counted('open', of), 'XX', now, id) end
end

local looked_for = {}
for _, turns in ipairs({ missing, waiting, running }) do
  for _, id in ipairs(turns) do looked_for[id] = true end
end

-- The turns of a set that the caller has not just looked for.
local function to_look_for(key, count)
  local newest = count > MANY and now - LOOKED_MS or '+inf'
  local found = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', newest, 'LIMIT', 0, MANY)) do
    if not looked_for[id] then found[#found + 1] = id end
  end
  return found
end

local limits, full = {}
local function limit(what, of, most)
  most = tonumber(most)
  if most > 0 and (of == 'tenant' or user ~= '') then limits[#limits + 1] = { what, of, most, counted(what, of) } end
end

take_note('tenant')
take_note('user')
limit('minute', 'tenant', tenant_minute)
limit('minute', 'user', user_minute)
limit('open', 'tenant', tenant_open)
limit('open', 'user', user_open)
if later == '0' then
  limit('flight', 'tenant', tenant_flight)
  limit('flight', 'user', user_flight)
end
for _, one in ipairs(limits) do
  local what, of, most, key = unpack(one)
  if what == 'minute' then redis.call('ZREMRANGEBYSCORE', key, '-inf', now - MINUTE_MS) end
  local count = redis.call('ZCARD', key)
  if count >= most and not redis.call('ZSCORE', key, turn) then
    if what == 'minute' then
      local frees = redis.call('ZRANGE', key, count - most, count - most, 'WITHSCORES')
      return { 'minute', of, frees[2] + MINUTE_MS - now }
    end
    if look == '1' then
      local found = to_look_for(key, count)
      if #found > 0 then return { 'look_for', unpack(found) } end
    end
    full = full or { what, of }
  end
end
for _, one in ipairs(limits) do
  local what, _, _, key = unpack(one)
  if not full or what == 'minute' then
    redis.call('ZADD', key, 'NX', now, turn)
    redis.call('PEXPIRE', key, what == 'minute' and MINUTE_MS or IDLE_MS)
  end
end
if full then return { 'full', full[1], full[2] } end
return { 'admitted' }
