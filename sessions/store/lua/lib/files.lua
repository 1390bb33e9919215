-- The files of a session: what add_file and the scripts of turns have in common.

-- Are all bytes of this file there?
local function has_file(id)
  local _, pieces = file_of(redis.call('HGET', S .. ':files', id))
  return pieces ~= nil and redis.call('HLEN', file_key(id)) == pieces
end

-- A turn uses these files: from now on they live as long as the session.
local function use_files(ids)
  for _, id in ipairs(ids) do
    local size, pieces, unused_until, details = file_of(redis.call('HGET', S .. ':files', id))
    if size and unused_until > 0 then
      redis.call('HSET', S .. ':files', id, size .. ',' .. pieces .. ',0:' .. details)
      redis.call('PERSIST', file_key(id))
    end
  end
end
