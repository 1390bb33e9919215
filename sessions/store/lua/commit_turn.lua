#!lua flags=allow-oom
-- Ends the running turn: history, result and usage in one step, fencing first; then begins the next turn of the
-- session under the same lease, or gives the lease back.
-- KEYS 1 session base   (writes :lease string, :mailbox list, :history list, :meta hash, :turn:<id> hash,
--                        :turn:<id>:events stream, :turn:<id>:journal hash, :turns zset, :idem:<key> hash,
--                        :state hash, :outbox list, :waiting zset, :later zset; reads :turn:<id>:inbox)
-- KEYS 2 partition base (writes :wakeups zset, :fence counter, :dead zset)
-- ARGV 1 turn id · 2 lease value · 3 succeeded | failed | cancelled | dead_lettered · 4 result (JSON) or '' · 5 error (JSON) or ''
--      6 usage (JSON) · 7 history entry or '' · 8 messages in it · 9 seq of the ended event
--      10 1 to go on with the next turn, else 0 · 11 lease (ms) · 12 worker's name · 13 history window (turns, or turns:bytes)
--      14 1 when this process may run a turn on its last attempt, else 0
--      15 why the model stopped (finish reason), or '' · 16 number of changes to the session's state
--      17... four each (as write_state's), then effects for the outbox
-- Returns lost (nothing written) | steered (nothing written: unread steering wants one more model call)
--      | moved (nothing written: state that a change was decided on is another by now) | committed, status, released | committed, status, more (turns wait: publish a
--      wake-up), queue, now (ms) | committed, status, outbox (effects to apply) | committed, status, run... (as lease_session's run)
--!include clock
--!include session
--!include head
--!include state

-- The turn's changes of state. One that cannot be done any more (somebody put a text where a number was) is left out.
local function apply_effects()
  local behind = 17 + 4 * tonumber(ARGV[16] or 0)
  for i = 17, behind - 1, 4 do
    if not objection(S .. ':state', {}, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) then
      change(S .. ':state', ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
    end
  end
  for i = behind, #ARGV do redis.call('RPUSH', S .. ':outbox', ARGV[i]) end
end

-- Where there are keys, which a script has not, the worker says what a number becomes, and swaps it in for what it saw.
-- Was one changed since?
local function moved()
  for i = 17, 16 + 4 * tonumber(ARGV[16] or 0), 4 do
    if ARGV[i] == 'swap' and objection(S .. ':state', {}, 'swap', ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) then return true end
  end
  return false
end

-- The commit began the session's next turn, its reply was lost, and the lease ran out before it was sent again: an
-- owner that is still ours means that nobody else has had the session since, so the lease is taken back.
local function taken_back(value, now)
  local head = redis.call('LINDEX', S .. ':mailbox', 0)
  local r = head and redis.call('HMGET', turn_key(head), 'status', 'owner') or {}
  if r[1] ~= 'running' or r[2] ~= value then return nil end
  redis.call('SET', S .. ':lease', value, 'PX', ARGV[11])
  reindex(now)
  return start_head(value, '', ARGV[11], ARGV[12], ARGV[13], ARGV[14], now)
end

S, P = KEYS[1], KEYS[2]
local id, value, status, now = ARGV[1], ARGV[2], ARGV[3], now_ms()
local t = turn_key(id)
local r = redis.call('HMGET', t, 'status', 'owner', 'cancel', 'keep')
if r[2] ~= value then return { 'lost' } end
if FINAL[r[1]] then
  status = r[1] -- sent again after a lost reply: the stored outcome stands (R1)
else
  if r[1] ~= 'running' or redis.call('GET', S .. ':lease') ~= value then return { 'lost' } end
  if redis.call('LINDEX', S .. ':mailbox', 0) ~= id then return { 'lost' } end
  local result, why, entry = ARGV[4], ARGV[5], ARGV[7]
  local kept = r[3] and r[4] == '1' -- interrupted: its changes of state are kept, too
  local forgotten = r[3] and r[4] == '0' -- rolled back
  if r[3] and status ~= 'cancelled' then -- an accepted cancel wins over a commit that comes after it (R5)
    status, result, why = 'cancelled', '', failure('TurnCancelled', 'cancelled by a client')
  end
  if status == 'succeeded' and redis.call('EXISTS', t .. ':inbox') == 1 then return { 'steered' } end
  if (status == 'succeeded' or kept) and moved() then return { 'moved' } end
  if forgotten then entry = '' end
  if entry ~= '' then
    redis.call('RPUSH', S .. ':history', entry)
    redis.call('HINCRBY', S .. ':meta', 'messages', ARGV[8])
  end
  for field, spent in pairs(cjson.decode(ARGV[6])) do
    if type(spent) == 'number' and spent ~= 0 then redis.call('HINCRBYFLOAT', S .. ':meta', field, spent) end
  end
  if status == 'succeeded' or kept then apply_effects() end
  local token = string.match(value, '^(%d+):')
  end_turn(id, status, now, token, ARGV[9], { 'result', result, 'error', why, 'usage', ARGV[6], 'finish', ARGV[15] or '' })
end
local held = redis.call('GET', S .. ':lease')
if held and held ~= value then return { 'committed', status, 'released' } end
local going_on = not held and taken_back(value, now)
if going_on then return { 'committed', status, unpack(going_on) } end
-- Nobody's lease: it was given back here, and the reply lost that said what is left to do. It is said again.
if redis.call('EXISTS', S .. ':outbox') == 1 then
  if held then settle('outbox', now) end
  return { 'committed', status, 'outbox' }
end
if held and ARGV[10] == '1' then
  local reply = start_head(value, '', ARGV[11], ARGV[12], ARGV[13], ARGV[14], now)
  if reply[1] == 'run' then return { 'committed', status, unpack(reply) } end
  settle(reply[1], now)
  return { 'committed', status, redis.call('EXISTS', S .. ':outbox') == 1 and 'outbox' or 'released' }
end
local word, queue = 'released', ''
if redis.call('LLEN', S .. ':mailbox') > 0 then
  word, queue = 'more', redis.call('HGET', S .. ':meta', 'queue')
end
if held then -- without it this was written before, and its reply lost
  redis.call('DEL', S .. ':lease')
  if word == 'more' then redis.call('HSET', S .. ':meta', 'wake', now, 'wake_queue', queue) end
  reindex(now)
end
return { 'committed', status, word, queue, now }
