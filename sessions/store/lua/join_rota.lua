#!lua flags=allow-oom
-- Enters sessions into the rota of a queue. One that is in it keeps its place, so entering twice changes nothing.
-- KEYS
--   R: base of the rota (writes :tenants zset, :waiting~<tenant> zset, :served zset)
-- ARGV
--   at_ms: since when they wait; a tenant's sessions come in this order
--   first: 1 for a place before the others of the tenant, else 0
--   sessions[]: their keys, as wake-ups have them
-- Returns
--   joined: new[] (those that were not in it)
--!include rota
local EARLIER = 10000000000000 -- before all times
local new, tenants = {}, {}
for _, session in ipairs(sessions) do
  if enter(session, exactly(first == '1' and at_ms - EARLIER or tonumber(at_ms))) then new[#new + 1] = session end
  tenants[tenant_of(session)] = true
end
for tenant in pairs(tenants) do keep_waiting(tenant) end
return { 'joined', unpack(new) }
