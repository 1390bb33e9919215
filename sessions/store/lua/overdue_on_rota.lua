#!lua flags=allow-oom
-- Names sessions that have waited for a while in the rota of a queue whose wake-ups are used up. One worker in a second gets
-- an answer, for there should not be more wake-ups than sessions.
-- KEYS
--   R: base of the rota (writes :looked string; reads :tenants zset, :waiting~<tenant> zset)
-- ARGV
--   waited_ms: how long they have waited at least
--   most: how many to name
-- Returns
--   overdue: now_ms, sessions[]
--!include clock
--!include rota
local SECOND = 900
local now, found = now_ms(), {}
if redis.call('SET', R .. ':looked', '1', 'NX', 'PX', SECOND) then
  local until_ms = now - waited_ms
  for _, tenant in ipairs(redis.call('ZRANGE', R .. ':tenants', 0, most - 1)) do
    if #found == tonumber(most) then break end
    for _, session in ipairs(redis.call('ZRANGEBYSCORE', line_of(tenant), '-inf', until_ms, 'LIMIT', 0, most - #found)) do
      found[#found + 1] = session
    end
  end
end
return { 'overdue', now, unpack(found) }
