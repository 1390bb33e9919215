-- Deletes the keys of one turn; returns how many there were. After `session`.
local function forget_turn(id)
  local t, removed = turn_key(id), 0
  local idems = redis.call('HMGET', t, 'idem', 'steer_idem')
  for idem in string.gmatch((idems[1] or '') .. ' ' .. (idems[2] or ''), '%S+') do
    removed = removed + redis.call('UNLINK', S .. ':idem:' .. idem)
  end
  redis.call('ZREM', P .. ':dead', ref() .. '~' .. id)
  return removed + redis.call('UNLINK', t, t .. ':events', t .. ':journal', t .. ':inbox', t .. ':upload')
end
