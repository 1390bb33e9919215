-- What every transition of a turn has in common. The keys derive from S, the base of the session, and P, the base of its
-- partition, which the script has as locals; the rescue script assigns them for one session after the other.
local LOST_WAKE_MS = 2000 -- a wake-up that no worker consumed for this long may be lost: look at the session again
local TOMBSTONE_MS = 2592000000 -- for 30 days an expired session can be told from one that never existed
local SESSION_KEYS = {
  'meta', 'shares', 'history', 'segments', 'left', 'branches', 'adapters', 'turns', 'agents', 'state', 'checkpoints', 'memory',
  'memory:log', 'memory:vectors', 'memory:texts', 'sources', 'texts', 'files', 'schedules', 'schedules:state',
  'schedules:due',
}
local FINAL = { succeeded = true, failed = true, cancelled = true, dead_lettered = true }

local function turn_key(id)
  return S .. ':turn:' .. id
end

-- Is it a run whose tasks are turns of their own? Then a worker must cancel the tasks before the run ends.
local function has_tasks(id)
  return redis.call('HEXISTS', turn_key(id) .. ':journal', 'team') == 1
end

local function ref()
  return string.sub(S, #P + 2)
end

-- Notifies the clients that watch this turn: readers of every event, waiters of its end.
local function notify(id, ended)
  local w = redis.call('HMGET', turn_key(id), 'readers', 'waiters')
  for nonce in string.gmatch(w[1] or '', '%S+') do
    redis.call('SPUBLISH', P .. ':bell:' .. nonce, id)
  end
  if ended then
    for nonce in string.gmatch(w[2] or '', '%S+') do
      redis.call('SPUBLISH', P .. ':bell:' .. nonce, id)
    end
  end
end

-- Appends an event under an id that the caller chose. A retry finds the id taken, so nothing is written twice.
-- `why` is an encrypted error: a field of its own, for the script cannot put it into the JSON of `data`.
local function add_event(id, token, seq, kind, data, why)
  local eid = token .. '-' .. seq
  local done
  if why then
    done = redis.pcall('XADD', turn_key(id) .. ':events', eid, 'type', kind, 'data', data, 'error', why)
  else
    done = redis.pcall('XADD', turn_key(id) .. ':events', eid, 'type', kind, 'data', data)
  end
  if type(done) == 'table' and done.err and not string.find(done.err, 'equal or smaller', 1, true) then
    return error(done.err)
  end
  return eid
end

-- Sets when the rescuer must look at this session: at the earliest of all reasons. Without a reason the session leaves the
-- index. Every script that changes a reason calls this, so that no open turn is ever forgotten.
local function reindex(now)
  local score
  local left = redis.call('PTTL', S .. ':lease')
  local id = left <= 0 and redis.call('LINDEX', S .. ':mailbox', 0)
  if left > 0 then
    score = now + left
  elseif id then
    local r = redis.call('HMGET', turn_key(id), 'status', 'not_before', 'deadline')
    local not_before = tonumber(r[2] or '') or 0
    if not_before > now then
      score = not_before
    elseif r[1] ~= 'waiting' or not_before > 0 then
      score = (tonumber(redis.call('HGET', S .. ':meta', 'wake') or '') or now) + LOST_WAKE_MS
    end
  end
  if redis.call('EXISTS', S .. ':outbox') == 1 then -- effects that wait to be applied in other slots
    -- While a turn runs the time is now: each renewal of its lease comes here, and a later time would never come.
    score = math.min(score or math.huge, left > 0 and now or now + LOST_WAKE_MS)
  end
  -- Turns that wait for an answer, each up to its own time limit; turns that are to begin, or to be tried again, later; and
  -- schedules, each at its next tick.
  for _, name in ipairs({ ':waiting', ':later', ':schedules:due' }) do
    local first = redis.call('ZRANGE', S .. name, 0, 0, 'WITHSCORES')
    if first[2] then score = math.min(score or math.huge, tonumber(first[2])) end
  end
  if score then
    redis.call('ZADD', P .. ':wakeups', score, ref())
  else
    redis.call('ZREM', P .. ':wakeups', ref())
  end
end

local function file_key(id)
  return S .. ':file:' .. id
end

-- A file in :files is `<size>,<pieces>,<until>:<details>`. `until` is the time at which it is removed if no turn has used
-- it by then, and 0 for a file that one has used: that one lives as long as the session.
local function file_of(entry)
  local size, pieces, unused_until, details = string.match(entry or '', '^(%d+),(%d+),(%d+):(.*)$')
  return tonumber(size or ''), tonumber(pieces or ''), tonumber(unused_until or ''), details
end

-- Runs a command on the bytes of each file that a turn has used.
local function each_used_file(command, ...)
  local flat = redis.call('HGETALL', S .. ':files')
  for i = 1, #flat, 2 do
    local _, _, unused_until = file_of(flat[i + 1])
    if unused_until == 0 then redis.call(command, file_key(flat[i]), ...) end
  end
end

-- A name as it is in a key: as `escaped` in sessions/store/keys.py.
local function escaped(name)
  return (string.gsub(name, '[^A-Za-z0-9_.@-]', function(c) return string.format('%%%02X', string.byte(c)) end))
end

-- Whose lists the session is in: '' stands for its tenant's, which has all of them. A lane, and what belongs to a user or
-- a tenant, is in none. Also whether it is hidden: made for one task or run, so found by who deletes all, and not shown.
local function viewers()
  if string.find(ref(), '~', 1, true) then return {} end
  local m = redis.call('HMGET', S .. ':meta', 'created', 'owner', 'hidden')
  if not m[1] then return {} end
  return { '', m[2] and escaped(m[2]) or nil }, m[3], m[1]
end

-- The users that the session is shared with, whose lists of shared sessions it is in. `all` are the viewers: only an owner,
-- the second of them, shares a session.
local function guests(all)
  local found = all[2] and redis.call('HKEYS', S .. ':shares') or {}
  for i, user in ipairs(found) do found[i] = escaped(user) end
  return found
end

-- All in whose lists the session is.
local function listed_for()
  local all = viewers()
  for _, guest in ipairs(guests(all)) do all[#all + 1] = guest end
  return all
end

-- The end of the names of a viewer's indexes, and the session's name in them.
local function listing(viewer)
  local tenant, name = string.match(ref(), '^([^:]*):(.*)$')
  return '~' .. (viewer == '' and tenant or tenant .. '~' .. viewer), name
end

local function unlist(viewer)
  local index, name = listing(viewer)
  redis.call('ZREM', P .. ':asking' .. index, name)
  redis.call('ZREM', P .. ':used' .. index, name)
  redis.call('ZREM', P .. ':made' .. index, name)
  redis.call('ZREM', P .. ':hidden' .. index, name)
  redis.call('ZREM', P .. ':shared' .. index, name)
  redis.call('ZREM', P .. ':expiring', ref() .. '~' .. viewer)
end

-- Puts the session into the indexes by which sessions are listed. Only this and `unlist` change them. `expiring` has who
-- must leave them when, for a session that expires is removed by no script.
local function list_session(used)
  local all, hidden, created = viewers()
  for _, viewer in ipairs(all) do
    local index, name = listing(viewer)
    if hidden then
      redis.call('ZADD', P .. ':hidden' .. index, used, name)
    else
      redis.call('ZADD', P .. ':used' .. index, used, name)
      redis.call('ZADD', P .. ':made' .. index, created, name)
    end
  end
  for _, guest in ipairs(guests(all)) do
    local index, name = listing(guest)
    redis.call('ZADD', P .. ':shared' .. index, used, name)
  end
end

-- The session has a turn that waits for an answer, since now: it comes first in the lists of such sessions.
local function list_asking(now)
  for _, viewer in ipairs(viewers()) do
    local index, name = listing(viewer)
    redis.call('ZADD', P .. ':asking' .. index, now, name)
  end
end

-- Ends a turn's wait for an answer; returns whether it did wait.
local function ends_wait(id)
  if redis.call('ZREM', S .. ':waiting', id) == 0 then return false end
  if redis.call('EXISTS', S .. ':waiting') == 0 then
    for _, viewer in ipairs(viewers()) do
      local index, name = listing(viewer)
      redis.call('ZREM', P .. ':asking' .. index, name)
    end
  end
  return true
end

-- When the session will expire, nil for never.
local function note_expiry(at)
  for _, viewer in ipairs(listed_for()) do
    if at then
      redis.call('ZADD', P .. ':expiring', at, ref() .. '~' .. viewer)
    else
      redis.call('ZREM', P .. ':expiring', ref() .. '~' .. viewer)
    end
  end
end

-- Removes from the indexes some of the sessions that have expired. Assigns S.
local function unlist_expired(now, most)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', P .. ':expiring', '-inf', now, 'LIMIT', 0, most)) do
    local session, viewer = string.match(member, '^(.*)~([^~]*)$')
    S = P .. ':' .. session
    local still = false -- a new session may have the id, of the same user or of another one
    for _, other in ipairs(listed_for()) do still = still or other == viewer end
    local at = redis.call('PEXPIRETIME', S .. ':meta')
    if not still then
      unlist(viewer)
    elseif at > 0 then
      redis.call('ZADD', P .. ':expiring', at, member)
    else
      redis.call('ZREM', P .. ':expiring', member)
    end
  end
end

local function keep_all()
  for _, name in ipairs(SESSION_KEYS) do redis.call('PERSIST', S .. ':' .. name) end
  each_used_file('PERSIST')
  note_expiry(nil)
end

-- '' leaves the session's ttl as it is; 0 removes it, together with an expiry that was set already.
local function set_ttl(ttl)
  if ttl == '' then return end
  redis.call('HSET', S .. ':meta', 'ttl', ttl)
  if tonumber(ttl) == 0 then
    keep_all()
    redis.call('DEL', S .. ':expired')
  end
end

-- While a turn is open, or a schedule is active, nothing of its session expires. The end of the last one sets one expiry on
-- all keys, so that a session expires as a whole. The list of turns is kept as long as the records of the turns:
-- delete_session finds the records by it.
local function set_expiry(now)
  local m = redis.call('HMGET', S .. ':meta', 'open', 'ttl')
  local ttl = tonumber(m[2] or '') or 0
  if ttl > 0 and (tonumber(m[1] or '') or 0) <= 0 and redis.call('EXISTS', S .. ':schedules:due') == 0 then
    for _, name in ipairs(SESSION_KEYS) do
      redis.call('PEXPIREAT', S .. ':' .. name, now + ttl)
    end
    each_used_file('PEXPIREAT', now + ttl)
    local newest = tonumber(redis.call('ZRANGE', S .. ':turns', -1, -1, 'WITHSCORES')[2] or '') or 0
    redis.call('PEXPIREAT', S .. ':turns', math.max(now + ttl, newest))
    redis.call('SET', S .. ':expired', now + ttl, 'PXAT', now + ttl + TOMBSTONE_MS)
    note_expiry(now + ttl)
  end
end

-- The session is used now: it comes first in the lists, and its ttl begins again.
local function note_use(now)
  if redis.call('HEXISTS', S .. ':meta', 'created') == 1 then redis.call('HSET', S .. ':meta', 'used', now) end
  set_expiry(now)
  list_session(now)
end

-- Adds what was used (JSON) to the session's counts.
local function count_in_session(usage)
  for field, spent in pairs(cjson.decode(usage)) do
    if type(spent) == 'number' and spent ~= 0 then redis.call('HINCRBYFLOAT', S .. ':meta', field, spent) end
  end
end

-- Has a worker ask a model for the session's title. The entry has a time, so that a later one is another request.
local function ask_for_title(now)
  redis.call('HSET', S .. ':meta', 'titling', 'asked')
  redis.call('RPUSH', S .. ':outbox', cjson.encode({ kind = 'title', at = tostring(now) }))
end

-- Fields of a turn's record that only an open turn needs, and the values that a missing field stands for.
local OF_OPEN_TURNS = { 'agent', 'answered', 'approval_ms', 'attended', 'blocks', 'closing', 'digest', 'idem_ttl', 'joins',
  'max_attempts', 'not_before', 'readers', 'resumed', 'result_ttl', 'seq', 'valid', 'waiters' }
local NOTHING = { crashes = '0', error = '', finish = '', idem = '', result = '' }
local PACKED_BYTES = 65536

-- Writes a key anew in its smallest form, for it will not change any more: a stream reserves 4 kB, and a hash has room for
-- more fields. If the server refuses these commands, the key stays as it is.
local function pack_key(key)
  local size = redis.pcall('MEMORY', 'USAGE', key)
  if type(size) ~= 'number' or size > PACKED_BYTES then return end
  local dumped = redis.pcall('DUMP', key)
  if type(dumped) == 'string' then redis.pcall('RESTORE', key, 0, dumped, 'REPLACE') end
end

-- Leaves of an ended turn what is still read: most turns are not looked at again, and all are kept for days.
local function shrink(id)
  local t, unread = turn_key(id), { unpack(OF_OPEN_TURNS) }
  for field, value in pairs(NOTHING) do
    if redis.call('HGET', t, field) == value then unread[#unread + 1] = field end
  end
  redis.call('HDEL', t, unpack(unread))
  pack_key(t)
end

-- The only function that gives a turn its final status. `fields` are further fields of its record.
local function end_turn(id, status, now, token, seq, fields)
  local t = turn_key(id)
  local r = redis.call('HMGET', t, 'result_ttl', 'idem', 'idem_ttl', 'steer_idem', 'webhook')
  local ttl = tonumber(r[1])
  redis.call('HSET', t, 'status', status, 'ended', now, unpack(fields))
  redis.call('HDEL', t, 'summary') -- of turns that may be deleted from now on
  redis.call('LREM', S .. ':mailbox', 1, id)
  ends_wait(id)
  redis.call('ZREM', S .. ':later', id)
  redis.call('UNLINK', t .. ':inbox', t .. ':upload')
  if status == 'dead_lettered' then
    redis.call('PEXPIRE', t .. ':journal', ttl)
    redis.call('ZREMRANGEBYSCORE', P .. ':dead', '-inf', now - ttl)
    redis.call('ZADD', P .. ':dead', now, ref() .. '~' .. id)
    redis.call('PEXPIRE', P .. ':dead', ttl)
  else
    redis.call('UNLINK', t .. ':journal')
  end
  local why = redis.call('HGET', t, 'error')
  local data = '{"status":"' .. status .. '"'
  local encrypted = why and string.sub(why, 1, 3) == '\255sf' -- as sessions/store/sealing.py marks it
  if why and why ~= '' and not encrypted then data = data .. ',"error":' .. why end
  local finish = redis.call('HGET', t, 'finish')
  if finish and finish ~= '' then data = data .. ',"finish_reason":' .. cjson.encode(finish) end
  add_event(id, token, seq, 'ended', data .. '}', encrypted and why or nil)
  notify(id, true)
  if status ~= 'dead_lettered' then shrink(id) end -- people look at those, with their journals
  pack_key(t .. ':events')
  redis.call('PEXPIRE', t, ttl)
  redis.call('PEXPIRE', t .. ':events', ttl)
  for idem in string.gmatch((r[2] or '') .. ' ' .. (r[4] or ''), '%S+') do
    redis.call('PEXPIRE', S .. ':idem:' .. idem, tonumber(r[3]))
  end
  redis.call('ZREMRANGEBYSCORE', S .. ':turns', '-inf', now)
  redis.call('ZADD', S .. ':turns', now + ttl, id)
  redis.call('HINCRBY', S .. ':meta', 'open', -1)
  redis.call('HINCRBY', S .. ':meta', 'turns', 1)
  note_use(now)
  if status == 'succeeded' and redis.call('HGET', S .. ':meta', 'titling') == 'wanted' then ask_for_title(now) end
  if r[5] then -- the next worker of this session submits the delivery; the caller reindexes
    local user = redis.call('HGET', t, 'sender') or redis.call('HGET', S .. ':meta', 'owner') or cjson.null
    redis.call('RPUSH', S .. ':outbox', cjson.encode({ kind = 'webhook', turn = id, user = user }))
  end
end

-- A mailbox entry whose record is gone cannot run. It becomes a dead letter, else every look at the session would fail.
local function bury_missing(id, now)
  local kept = 604800000
  redis.call('LREM', S .. ':mailbox', 1, id)
  redis.call('ZADD', S .. ':turns', now + kept, id) -- delete_session finds the turn's other keys by this
  redis.call('HINCRBY', S .. ':meta', 'open', -1)
  redis.call('ZADD', P .. ':dead', now, ref() .. '~' .. id)
  redis.call('PEXPIRE', P .. ':dead', kept)
  for _, name in ipairs({ ':events', ':journal', ':inbox' }) do redis.call('PEXPIRE', turn_key(id) .. name, kept) end
  set_expiry(now)
end

-- Did this turn ever begin? Then it may have finished steps.
local function begun(id)
  return redis.call('HEXISTS', turn_key(id) .. ':journal', 'inputs') == 1
end

-- Queues a turn that has begun and that no worker runs as the next one: a worker records what it finished, and ends it.
local function hand_in(id, now)
  redis.call('HSET', turn_key(id), 'status', 'queued', 'owner', '', 'not_before', 0)
  ends_wait(id)
  redis.call('ZREM', S .. ':later', id)
  -- A turn that had left the mailbox returns right after the turn that runs.
  if redis.call('LPOS', S .. ':mailbox', id) == false then
    local head = redis.call('LINDEX', S .. ':mailbox', 0)
    if head and begun(head) then
      redis.call('LINSERT', S .. ':mailbox', 'AFTER', head, id)
    else
      redis.call('LPUSH', S .. ':mailbox', id)
    end
  end
  if redis.call('EXISTS', S .. ':lease') == 0 then redis.call('HSET', S .. ':meta', 'wake', 0) end
end

-- Marks a turn as cancelled whose reader has left, if it was to be cancelled then (attend_turn); returns whether it did.
local function abandoned(id, attended, now)
  if not attended or tonumber(attended) >= now then return false end
  redis.call('HSET', turn_key(id), 'cancel', now)
  return true
end

local function failure(kind, message)
  return cjson.encode({ type = kind, message = message })
end

-- Hands in the turns whose pending calls were not answered in time.
local function expire_waits(now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', S .. ':waiting', '-inf', now)) do
    redis.call('HSET', turn_key(id), 'unanswered', 1)
    hand_in(id, now)
  end
end

-- Puts the turns into the mailbox that are due now, behind all that arrived before: turns that were accepted for this time
-- (accept_turn, `not_before`), and turns that had left the mailbox until now (release_turn, `later`).
local function return_due(now)
  local due = redis.call('ZRANGEBYSCORE', S .. ':later', '-inf', now)
  if #due > 0 and redis.call('EXISTS', S .. ':mailbox', S .. ':lease') == 0 then
    redis.call('HSET', S .. ':meta', 'wake', 0) -- nothing is on its way for them
  end
  for _, id in ipairs(due) do
    redis.call('ZREM', S .. ':later', id)
    redis.call('RPUSH', S .. ':mailbox', id)
  end
end
