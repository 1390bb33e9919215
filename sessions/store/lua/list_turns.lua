#!lua flags=no-writes
-- Lists turns of a session, in one step: a turn that ends meanwhile is neither left out nor listed twice.
-- KEYS
--   S: base of the session (reads :turns zset, :mailbox list, :waiting zset, :later zset)
-- ARGV
--   which: open (those that have not ended, in the order in which they run) | current (the same without scheduled ones)
--      | oldest | newest (all: the ended ones in the order of their ends, then the open ones in the order of acceptance)
--      | next (the one to read after another: the first that ended after it, otherwise the first current one)
--   after: the turn after which the list begins, or ''
--   limit: the largest number of turns
-- Returns
--   listed: turns[]
--!include clock
--!include rank
local turns, now = S .. ':turns', now_ms()

local function place_in(ids)
  for place, id in ipairs(ids) do
    if id == after then return place end
  end
end

-- Turns outside the mailbox: those that are due return to its end, those that wait for an answer continue after the turn
-- that runs then, and the scheduled ones begin later.
local function open_turns(with_scheduled)
  local found, seen = redis.call('LRANGE', S .. ':mailbox', 0, -1), {}
  for _, id in ipairs(found) do seen[id] = true end
  local function add(name, from, to)
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', S .. name, from, to)) do
      if not seen[id] then found[#found + 1] = id end
    end
  end
  add(':later', '-inf', now)
  add(':waiting', '-inf', '+inf')
  if with_scheduled then add(':later', '(' .. now, '+inf') end
  return found
end

local expired = redis.call('ZCOUNT', turns, '-inf', now) -- their records are gone
local own, most = after ~= '' and rank_in(turns, after), tonumber(limit)
if which == 'open' or which == 'current' then
  local found, listed = open_turns(which == 'open'), { 'listed' }
  local first = (place_in(found) or 0) + 1
  for place = first, math.min(#found, first + most - 1) do listed[#listed + 1] = found[place] end
  return listed
elseif which == 'next' then
  local following = own and redis.call('ZRANGE', turns, math.max(own + 1, expired), math.max(own + 1, expired), 'WITHSCORES')
  if following and following[1] and following[2] ~= 'inf' then return { 'listed', following[1] } end
  local first = open_turns(false)[1]
  return first and { 'listed', first } or { 'listed' }
elseif which == 'oldest' then
  local first = math.max(own and own + 1 or 0, expired)
  return { 'listed', unpack(redis.call('ZRANGE', turns, first, first + most - 1)) }
end
-- Newest first. If the turn `after` is gone, so are all older ones.
local last = own and own - 1 or redis.call('ZCARD', turns) - 1
if (after ~= '' and not own) or last < expired then return { 'listed' } end
local listed = { 'listed' }
local found = redis.call('ZRANGE', turns, math.max(expired, last - most + 1), last)
for place = #found, 1, -1 do listed[#listed + 1] = found[place] end
return listed
