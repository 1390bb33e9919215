-- The place of a member in a sorted set, from 0 on, or nil. That is ZRANK, for which users of the store were given no right
-- by earlier versions (docs/security.md). Few members have equal scores.
local function rank_in(key, member)
  local score = redis.call('ZSCORE', key, member)
  if not score then return nil end
  local before = redis.call('ZCOUNT', key, '-inf', '(' .. score)
  for i, other in ipairs(redis.call('ZRANGEBYSCORE', key, score, score)) do
    if other == member then return before + i - 1 end
  end
end
