#!lua flags=allow-oom
-- Takes a session's lease and begins the turn at the head of its mailbox.
-- KEYS 1 session base   (writes :lease string, :mailbox list, :turn:<id> hash, :turn:<id>:events stream,
--                        :turn:<id>:journal hash, :turns zset, :waiting zset, :later zset, :outbox list, :meta hash;
--                        reads :history list, :state hash)
-- KEYS 2 partition base (writes :wakeups zset, :fence counter, :dead zset)
-- ARGV 1 nonce of this acquisition · 2 lease (ms) · 3 worker's name · 4 history window (turns, or turns:bytes)
--      5 1 when this process may run a turn on its last attempt, else 0
-- Returns run, turn id, lease value, attempt, request, deadline (ms), accepted (ms), seq, retries, last (0|1),
--      now (ms), owner, journal, history, agent's configuration, state, closing ('', or why it ends: cancelled, dead_lettered, deadline,
--      unanswered; then write down what it finished, and run nothing), crashes | busy, time left (ms) | empty | waiting | later, not before (ms) | last
--      | outbox, entries to apply first
--!include clock
--!include session
--!include head
S, P = KEYS[1], KEYS[2]
local now, held = now_ms(), redis.call('GET', S .. ':lease')
local ours = held and string.match(held, ':(.*)$') == ARGV[1]
-- Effects come before the next turn (R7). Beside one that runs there are only those of turns that others ended.
local effects = ours and {} or redis.call('LRANGE', S .. ':outbox', 0, -1)
if #effects > 0 then return { 'outbox', effects } end
if held and not ours then return { 'busy', redis.call('PTTL', S .. ':lease') } end
local reply = start_head(held or nil, ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], now)
if reply[1] == 'run' then return reply end
settle(reply[1], now)
effects = redis.call('LRANGE', S .. ':outbox', 0, -1)
if #effects > 0 then return { 'outbox', effects } end -- of turns that ended here
return reply
