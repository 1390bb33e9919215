-- What a new message does to the turns before it. Only accept_turn includes this; it is a file of its own for its length.

-- Marks a turn as cancelled; the mark overrules any later commit. A rollback overrules an interrupt; nothing overrules a
-- plain cancel.
local function mark(id, how, now)
  local t = turn_key(id)
  if redis.call('HSETNX', t, 'cancel', now) == 1 or how == 'rollback' then
    redis.call('HSET', t, 'keep', how == 'interrupt' and 1 or 0)
  end
end

-- Cancels the turns in the mailbox in favour of a newer one. A turn that a worker runs is marked. So is a turn that has
-- begun if an interrupt keeps what it finished: a worker records that. Returns the worker to notify, and the turn.
local function clear_line(how, now)
  local worker, marked = '', ''
  for i, id in ipairs(redis.call('LRANGE', S .. ':mailbox', 0, -1)) do
    local t = turn_key(id)
    local r = redis.call('HMGET', t, 'status', 'owner', 'worker')
    if not r[1] then
      bury_missing(id, now)
    elseif r[1] == 'running' and redis.call('GET', S .. ':lease') == r[2] then
      mark(id, how, now)
      worker, marked = r[3], id
    elseif i == 1 and (how == 'interrupt' and begun(id) or has_tasks(id)) then
      mark(id, how, now)
      redis.call('HSET', t, 'not_before', now)
      if r[1] == 'waiting' and ends_wait(id) then
        redis.call('HSET', t, 'status', 'queued')
      end
    else
      end_turn(id, 'cancelled', now, redis.call('INCR', P .. ':fence'), 1,
        { 'cancel', now, 'error', failure('TurnCancelled', 'a newer message took its place (' .. how .. ')') })
    end
  end
  return worker, marked
end

-- The turn that a steering message joins: one that has begun, of the same agent and user, that no client has cancelled.
-- A turn works for its user, with that user's memories and tools, so what another user says is a turn of its own.
local function steerable(agent, speaker)
  local id = redis.call('LINDEX', S .. ':mailbox', 0)
  if not id or not begun(id) then return nil end
  local r = redis.call('HMGET', turn_key(id), 'request', 'cancel', 'joins', 'sender', 'user')
  if r[2] or not r[1] or (r[4] or r[5] or '') ~= speaker then return nil end
  if r[3] then return r[3] == 'agent:' .. agent and id or nil end -- its request is encrypted
  local request = cjson.decode(r[1])
  if request.agent == agent and type(request.team) ~= 'table' then return id end
  return nil
end

-- Puts a message into the inbox of a turn, with its idempotency key if it has one.
local function steer(id, message, parts, op, idem, digest, speaker)
  local t = turn_key(id)
  local entry = { id = op, text = message, parts = parts ~= '' and parts or nil }
  redis.call('RPUSH', t .. ':inbox', cjson.encode(entry))
  redis.call('SET', S .. ':op:' .. op, id, 'PX', 60000)
  if idem ~= '' then
    redis.call('HSET', S .. ':idem:' .. idem, 'turn', id, 'digest', digest, 'sender', speaker)
    local others = redis.call('HGET', t, 'steer_idem')
    redis.call('HSET', t, 'steer_idem', others and others .. ' ' .. idem or idem)
  end
end
