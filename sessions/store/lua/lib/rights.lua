-- What a user may do in the session. '' is a caller that names no user: it is trusted, and acts as the owner.
-- `needs` is read, write, or own (which only the owner may).
local function allowed(user, needs)
  local owner = redis.call('HGET', S .. ':meta', 'owner')
  if user == '' or not owner or owner == user then return true end
  if needs == 'own' then return false end
  local shared = redis.call('HGET', S .. ':shares', user)
  return shared == 'write' or shared == needs
end
