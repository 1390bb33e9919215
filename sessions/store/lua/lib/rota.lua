-- The rota of a Celery queue: the sessions that wait for a slot, in a line for each tenant (ADR 0046). R is its base.
-- `:tenants` has the tags of tenants with waiting sessions: the lowest comes next. `:served` has the tag that was taken
-- last under '', and of tenants without waiting sessions the tags that are higher, so that coming back gives nobody more.
local KEPT_MS = 604800000 -- what is forgotten by mistake is found by the rescue
local ARRIVAL = 0.000001 -- equal tenants come in the order of arrival

local function line_of(tenant)
  return R .. ':waiting~' .. tenant
end

local function exactly(number)
  return string.format('%.17g', number)
end

-- What one turn of a tenant adds to its tag.
local function price_of(tenant)
  return 1 / (tonumber(redis.call('HGET', R .. ':weights', tenant) or '') or 1)
end

local function lowest_tag()
  return tonumber(redis.call('ZRANGE', R .. ':tenants', 0, 0, 'WITHSCORES')[2] or '') or 0
end

-- The tag that was taken last, and that of a tenant without waiting sessions; nil if unknown.
local function tags_of(tenant)
  local function tag(member) return tonumber(redis.call('ZSCORE', R .. ':served', member) or '') end
  return tag(''), tag(tenant)
end

local function keep_served()
  redis.call('PEXPIRE', R .. ':served', KEPT_MS)
end

local function keep_waiting(tenant)
  redis.call('PEXPIRE', line_of(tenant), KEPT_MS)
  redis.call('PEXPIRE', R .. ':tenants', KEPT_MS)
end

local function tenant_of(session)
  return string.match(session, '^([^:]*):')
end

-- Gives a tenant whose line was empty its place among the others.
local function return_tenant(tenant)
  local taken, own = tags_of(tenant)
  -- Without a tag that was taken last, nobody waited until a moment ago.
  local tag = math.max(taken and taken + ARRIVAL or lowest_tag(), own or 0)
  local others = redis.call('ZCARD', R .. ':tenants')
  redis.call('ZADD', R .. ':tenants', exactly(tag + ARRIVAL * others), tenant)
  if own then redis.call('ZREM', R .. ':served', tenant) end
end

-- Enters a session with this place in its tenant's line; the caller keeps what waits. Returns whether it was not there.
local function enter(session, place)
  local tenant = tenant_of(session)
  local new = redis.call('ZADD', line_of(tenant), 'NX', place, session) == 1
  if redis.call('ZSCORE', R .. ':tenants', tenant) == false then return_tenant(tenant) end
  return new
end
