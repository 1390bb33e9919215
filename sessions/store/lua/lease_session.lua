#!lua flags=allow-oom
-- Takes a session's lease and begins the turn at the head of its mailbox.
-- KEYS
--   S: base of the session (writes :lease string, :mailbox list, :turn:<id> hash, :turn:<id>:events stream,
--      :turn:<id>:journal hash, :turns zset, :waiting zset, :later zset, :outbox list, :meta hash;
--      reads :history list, :branches list, :state hash)
--   P: base of its partition (writes :wakeups zset, :fence counter, :dead zset)
-- ARGV
--   nonce: of this acquisition; a retry after a lost reply has the same one
--   lease_ms: how long a lease lasts
--   worker: name of this worker
--   window: how much history a turn is given at most: turns, or turns:bytes
--   last_ok: 1 if this process may run a turn on its last attempt, else 0
--   packed_ok: 1 to begin a turn though entries that it sees are in segments, which cannot be read; else 0
-- Returns
--   run: turn, lease, attempt, request, deadline_ms, accepted_ms, seq, retries, last, now_ms, user, journal, history,
--      agent_config, state, closing, crashes, sender, replaces_at, behind, summary, packed (sender: '' for the session's
--      owner; last: 1 on the last attempt; closing: '' to run the turn, else why it ends without being run: cancelled | dead_lettered |
--      deadline | unanswered, and what it finished is to be recorded; replaces_at: it takes the place of the turns from
--      this position of the history on, '' for none; behind: how many turns wait in the mailbox behind it; summary: of the
--      turns before its window, encrypted for :meta, or ''; packed: how many entries of the history are in segments)
--   busy: left_ms (another worker has the lease for this long)
--   empty (no turn is open)
--   waiting (the head waits for an answer, or for its tasks)
--   later: not_before_ms (the head is backing off)
--   last (the head is on its last attempt, and this process already runs such a turn)
--   packed_away: at (first the entries from this position on must be unpacked)
--   effects: entries (of ended turns; apply them first)
--!include clock
--!include session
--!include compaction
--!include branches
--!include window
--!include head
local now, held = now_ms(), redis.call('GET', S .. ':lease')
local ours = held and string.match(held, ':(.*)$') == nonce
-- The effects of a turn are applied before the next turn begins. While one runs, the outbox holds only the effects of
-- turns that others ended meanwhile.
local entries = ours and {} or redis.call('LRANGE', S .. ':outbox', 0, -1)
if #entries > 0 then return { 'effects', entries } end
if held and not ours then return { 'busy', redis.call('PTTL', S .. ':lease') } end
local reply = start_head(held or nil, nonce, lease_ms, worker, window, last_ok, now, packed_ok)
if reply[1] == 'run' then return reply end
settle(reply[1], now)
entries = redis.call('LRANGE', S .. ':outbox', 0, -1)
if #entries > 0 then return { 'effects', entries } end -- of turns that this script ended
return reply
