#!lua flags=allow-oom
-- Takes the session that is next from the rota of a queue, and charges its tenant for one turn. If the reply is lost, so is
-- the session's place, as a wake-up may be: the rescue enters it again.
-- KEYS
--   R: base of the rota (writes :tenants zset, :waiting~<tenant> zset, :served zset; reads :weights hash)
-- ARGV
--   session: one that is entered before that, if it is not there; or ''
--   at_ms: since when it waits
--   unused: tenant of the session taken before, if that had nothing to run; or ''
-- Returns
--   next: session
--   nobody
--!include rota
local LOOKED = 0.01 -- the part of a turn's price for a session that has nothing to run

local function give_back(tenant)
  local rest = exactly((LOOKED - 1) * price_of(tenant))
  for _, key in ipairs({ ':tenants', ':served' }) do redis.call('ZADD', R .. key, 'XX', 'INCR', rest, tenant) end
end

local function charge(tenant, tag)
  local waits = redis.call('EXISTS', line_of(tenant)) == 1
  if not waits and redis.call('EXISTS', R .. ':tenants') == 0 then
    redis.call('UNLINK', R .. ':served') -- nobody waits: those who come next are equal
    return
  end
  redis.call('ZADD', R .. ':served', exactly(tag), '')
  redis.call('ZADD', R .. (waits and ':tenants' or ':served'), exactly(tag + price_of(tenant)), tenant)
  redis.call('ZREMRANGEBYSCORE', R .. ':served', '-inf', '(' .. exactly(tag))
  keep_served()
end

if session ~= '' then
  enter(session, at_ms)
  keep_waiting(tenant_of(session))
end
if unused ~= '' then give_back(unused) end
while true do
  local first = redis.call('ZPOPMIN', R .. ':tenants')
  if not first[1] then return { 'nobody' } end
  local found = redis.call('ZPOPMIN', line_of(first[1]))[1]
  if found then
    charge(first[1], tonumber(first[2]))
    return { 'next', found }
  end
end
