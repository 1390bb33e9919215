#!lua flags=allow-oom
-- Asks whether a session may go on with its next turn in the slot that it has, and charges its tenant for turns.
-- KEYS
--   R: base of the rota of its queue (writes :tenants zset, :served zset; reads :weights hash)
-- ARGV
--   tenant: escaped
--   turns: how many it has begun in this slot that its tenant was not charged for
-- Returns
--   keep
--   yield (another tenant waits, and comes first)
--!include rota
local two = redis.call('ZRANGE', R .. ':tenants', 0, 1, 'WITHSCORES')
local waits = two[1] == tenant and two[2] or redis.call('ZSCORE', R .. ':tenants', tenant)
local others = tonumber(two[two[1] == tenant and 4 or 2] or '')
if not others then return { 'keep' } end -- nobody else waits
local taken, own = tags_of(tenant)
taken = taken or lowest_tag()
local tag = (tonumber(waits or '') or math.max(own or 0, taken)) + turns * price_of(tenant)
redis.call('ZADD', R .. (waits and ':tenants' or ':served'), exactly(tag), tenant)
if tag < others then taken = math.max(tag, taken) end
redis.call('ZADD', R .. ':served', exactly(taken), '')
keep_served()
if tag < others then return { 'keep' } end
return { 'yield' }
