#!lua flags=no-writes,allow-cross-slot-keys
-- Adds up the counters of a day's usage from several partitions.
-- On a cluster the partitions must be on one server; if one of them is not, or is being moved, the server refuses.
-- KEYS
--   P: base of a partition (reads :usage~<tenant>~<day> hash)
-- ARGV
--   counters: the end of their name
--   user: only this user's (as in the names of the counters), or '*' for all
--   by_model: 1 to keep models apart, else 0
--   by_user: 1 to keep users apart, else 0
--   partitions[]: bases of others
-- Returns
--   sums: found[counter, amount] (the name without what is not kept apart)
partitions[#partitions + 1] = P
local sums, names = {}, {}
for _, partition in ipairs(partitions) do
  local flat = redis.call('HGETALL', partition .. ':usage' .. counters)
  for i = 1, #flat, 2 do
    local what, model, whose = string.match(flat[i], '^([^|]*)|([^|]*)|([^|]*)$')
    if user == '*' or whose == user then
      local name = what .. '|' .. (by_model == '1' and model or '') .. '|' .. (by_user == '1' and whose or '')
      if not sums[name] then names[#names + 1] = name end
      sums[name] = (sums[name] or 0) + tonumber(flat[i + 1])
    end
  end
end
local reply = { 'sums' }
for _, name in ipairs(names) do
  reply[#reply + 1] = name
  reply[#reply + 1] = string.format('%.0f', sums[name])
end
return reply
