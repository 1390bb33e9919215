#!lua
-- Accepts a turn: from here on it ends in exactly one final status. Refused at maxmemory, on purpose (no allow-oom).
-- KEYS 1 session base   (writes :meta hash, :mailbox list, :turn:<id> hash, :turns zset, :agents hash, :idem:<key> hash,
--                        :waiting zset, :turn:<id>:inbox list, :op:<id> string, :outbox list;
--                        reads :lease, :turn:<id>:journal)
-- KEYS 2 partition base (writes :wakeups zset, :fence counter)
-- ARGV 1 turn id · 2 request (JSON) · 3 digest of the request · 4 hash of the idempotency key, or ''
--      5 user id, or '' · 6 time to the deadline (ms) · 7 most turns that may wait · 8 queue
--      9 watching client's nonce, or '' · 10 readers | waiters · 11 result ttl (ms) · 12 idempotency ttl (ms)
--      13 max attempts · 14 session ttl (ms; '' leaves it, 0 removes it) · 15 agent's name
--      16 its configuration (JSON), or '' for the one that the session knows
--      17 enqueue | reject | interrupt | rollback | steer (default: enqueue) · 18 1 when the turn blocks the line
--      while it waits for an answer, else 0 · 19 longest such wait (ms) · 20 the message's text (for steer)
--      21 where its end is to be told, or '' · 22 whose messages may join a turn whose request is sealed: agent:<name> | none; else ''
-- Returns accepted, turn id, wake (1: publish a wake-up), now (ms), queue, worker to tell or '', turn it runs
--      | steered, turn it joined | open, count (policy reject) | duplicate, turn id | conflict, turn id
--      | owner | full, count
--!include clock
--!include session
--!include line
S, P = KEYS[1], KEYS[2]
local id, now = ARGV[1], now_ms()
local t, meta = turn_key(id), S .. ':meta'
if redis.call('EXISTS', t) == 1 then -- this very script, sent again after a lost reply
  local m = redis.call('HMGET', meta, 'wake', 'queue')
  return { 'accepted', id, '1', m[1] or now, m[2] or ARGV[8], '', '' }
end
local policy, joined = ARGV[17] or 'enqueue', redis.call('GET', S .. ':op:' .. id)
if joined then return { 'steered', joined } end -- likewise
local owner = redis.call('HGET', meta, 'owner')
if ARGV[5] ~= '' and owner and owner ~= ARGV[5] then return { 'owner' } end
if ARGV[4] ~= '' then
  local first = redis.call('HMGET', S .. ':idem:' .. ARGV[4], 'turn', 'digest')
  -- The key may outlive the session that it was used in: to the next one of this id, and to its user, it means nothing.
  local accepted = first[1] and tonumber(redis.call('HGET', turn_key(first[1]), 'accepted') or '')
  local created = tonumber(redis.call('HGET', meta, 'created') or '')
  if accepted and created and accepted >= created then
    return { first[2] == ARGV[3] and 'duplicate' or 'conflict', first[1] }
  end
end
local open = tonumber(redis.call('HGET', meta, 'open') or '') or 0
if policy == 'reject' and open > 0 then return { 'open', open } end
local running = policy == 'steer' and steerable(ARGV[15])
if running then
  local unread = redis.call('LLEN', turn_key(running) .. ':inbox')
  if unread >= tonumber(ARGV[7]) then return { 'full', unread } end
  steer(running, ARGV[20], id, ARGV[4], ARGV[3])
  if (ARGV[21] or '') ~= '' then redis.call('HSETNX', turn_key(running), 'webhook', ARGV[21]) end
  return { 'steered', running }
end
local worker, marked = '', ''
if policy == 'interrupt' or policy == 'rollback' then worker, marked = clear_line(policy, now) end
local waiting = redis.call('LLEN', S .. ':mailbox')
local all = tonumber(redis.call('HGET', meta, 'open') or '') or 0 -- some wait for answers, in the line or beside it
if all >= tonumber(ARGV[7]) + (marked ~= '' and 1 or 0) then
  reindex(now) -- its policy may have ended some
  return { 'full', all }
end

redis.call('HSETNX', meta, 'created', now)
redis.call('HSETNX', meta, 'queue', ARGV[8])
if ARGV[5] ~= '' and not owner then redis.call('HSET', meta, 'owner', ARGV[5]) end
set_ttl(ARGV[14])
if redis.call('HINCRBY', meta, 'open', 1) == 1 then
  redis.call('PERSIST', S .. ':turns') -- it may have outlived an expired session of this id
  if (tonumber(redis.call('HGET', meta, 'ttl') or '') or 0) > 0 then keep_all() end
end
redis.call('HSET', t, 'status', 'queued', 'request', ARGV[2], 'digest', ARGV[3], 'idem', ARGV[4], 'accepted', now,
  'deadline', now + ARGV[6], 'attempt', 0, 'crashes', 0, 'result_ttl', ARGV[11], 'idem_ttl', ARGV[12],
  'max_attempts', ARGV[13], 'blocks', ARGV[18] or 1, 'approval_ms', ARGV[19] or 86400000)
-- Its record may outlive the session, and with it whose that was.
local whose = owner or ARGV[5]
if whose ~= '' then redis.call('HSET', t, 'user', whose) end
if ARGV[9] ~= '' then redis.call('HSET', t, ARGV[10], ARGV[9]) end
if (ARGV[21] or '') ~= '' then redis.call('HSET', t, 'webhook', ARGV[21]) end
if (ARGV[22] or '') ~= '' then redis.call('HSET', t, 'joins', ARGV[22]) end
-- A turn runs with the configuration that was in force when it was accepted, whatever comes later.
if ARGV[15] then
  local config, known = ARGV[16], redis.call('HGET', S .. ':agents', ARGV[15])
  if config ~= '' and config ~= known then redis.call('HSET', S .. ':agents', ARGV[15], config) end
  redis.call('HSET', t, 'agent', config ~= '' and config or known or '')
end
if ARGV[4] ~= '' then
  redis.call('HSET', S .. ':idem:' .. ARGV[4], 'turn', id, 'digest', ARGV[3])
  redis.call('PERSIST', S .. ':idem:' .. ARGV[4])
end
redis.call('RPUSH', S .. ':mailbox', id)
redis.call('ZADD', S .. ':turns', '+inf', id)
local queue = redis.call('HGET', meta, 'queue')
-- Only the first turn in the line needs a wake-up: whoever holds the lease drains the mailbox.
-- A policy may have ended those before it, or left one to be written down.
local first = waiting == 0 or policy == 'interrupt' or policy == 'rollback'
local wake = (first and redis.call('EXISTS', S .. ':lease') == 0) and '1' or '0'
if wake == '1' then redis.call('HSET', meta, 'wake', now, 'wake_queue', queue) end
reindex(now)
return { 'accepted', id, wake, now, queue, worker, marked }
