#!lua
-- Announces a session that is about to be created, before its tenant's and its user's sessions are counted in the partitions:
-- of two that are created at the same time, the later one counts the other.
-- KEYS
--   T: base of the tenant's limits (writes :sessions zset, and :sessions~<user> zset)
-- ARGV
--   session: its ref
--   user: escaped, or ''
-- Returns
--   announced: by_user, earlier[] (sessions that were announced before, and may not exist yet: first the user's, so many,
--      then the tenant's)
--!include clock
--!include rank
local ANNOUNCED_MS = 10000 -- by then it exists, or was refused
local now, earlier, by_user = now_ms(), {}, 0
local function announce(key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - ANNOUNCED_MS)
  -- Later than all others, also within one millisecond: else two might take each other for the later one.
  local newest = tonumber(redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2] or '') or 0
  redis.call('ZADD', key, 'NX', math.max(now, newest + 1), session)
  redis.call('PEXPIRE', key, ANNOUNCED_MS)
  local place = rank_in(key, session)
  if place == 0 then return end
  for _, other in ipairs(redis.call('ZRANGE', key, 0, place - 1)) do earlier[#earlier + 1] = other end
end
if user ~= '' then
  announce(T .. ':sessions~' .. user)
  by_user = #earlier
end
announce(T .. ':sessions')
return { 'announced', by_user, unpack(earlier) }
