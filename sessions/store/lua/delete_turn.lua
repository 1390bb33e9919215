#!lua flags=allow-oom
-- Deletes one turn that has ended: its entry in the history or in a branch, its record, events and idempotency keys.
-- KEYS
--   S: base of the session (writes :history, :segments, :left and :branches lists, :meta hash, :turns zset, :op:<id> string, :outbox list, the
--      hash :sources of the lane ~transcript; deletes
--      :turn:<id> hash, :turn:<id>:events stream, :turn:<id>:journal hash, :turn:<id>:inbox list,
--      :turn:<id>:upload string, :idem:<key> hash; reads :mailbox list, :waiting zset)
--   P: base of its partition (writes :dead zset, :wakeups zset)
-- ARGV
--   turn
--   user: id, or ''
--   operation: its id; a retry after a lost reply changes nothing
--   list: history | left | '' (where its entry is, '' for nowhere)
--   at: its position there
--   messages: how many the entry has
--   version: of the history, when it was looked up
--   length: of the history, when it was looked up
--   positions: the state of the history that its segment was read in
--   segment: which has its entry, without it: the bytes; '' if it has no other, or if no segment has it
-- Returns
--   forgotten: keys, messages (how many of each)
--   open: status (the turn has not ended)
--   needed: by (this open turn has seen the turn, or is replacing turns)
--   moved (the history has changed: look the turn up again)
--   other_owner (the session belongs to another user)
--!include clock
--!include session
--!include rights
--!include compaction
--!include branches
--!include window
--!include segments
--!include forget
--!include transcript
local meta, done = S .. ':meta', S .. ':op:' .. operation
local before = redis.call('GET', done)
if before then return { 'forgotten', string.match(before, '^(%d+):(%d+)$') } end
if not allowed(user, 'write') then return { 'other_owner' } end
-- The turn's record may outlive its session; then it is still the user's whom the session belonged to.
local theirs = redis.call('HGET', turn_key(turn), 'user')
if user ~= '' and theirs and theirs ~= user and theirs ~= redis.call('HGET', meta, 'owner') then return { 'other_owner' } end
local status = redis.call('HGET', turn_key(turn), 'status')
if status and not FINAL[status] then return { 'open', status } end
if version ~= (redis.call('HGET', meta, 'history_version') or '0') then return { 'moved' } end
if list == '' and history_length() ~= tonumber(length) then return { 'moved' } end -- it may have been committed since
local place = tonumber(at)
local by = list == 'history' and depends_on(place)
if by then return { 'needed', by } end
if list == 'history' then
  local before = packed_entries()
  if place >= before then
    remove_at(S .. ':history', place - before)
  elseif positions ~= state_of_positions() or not forget_packed(place, segment) then
    return { 'moved' }
  end
  close_gap(place, tonumber(messages))
end
if list == 'left' then forget_in_branch(place, tonumber(messages)) end
if list ~= '' then note_history_changed(list == 'history' and place or nil) end
if list == 'history' then ask_for_summary(now_ms()) end -- for a new one, if the old one covered this turn
local keys = forget_turn(turn)
-- A title that is being written may be about it.
local first = list == 'left' or list == 'history' and place == 0
if first and redis.call('HGET', meta, 'titling') == 'asked' then redis.call('HDEL', meta, 'titling') end
-- The title is the beginning of its message. The next message that is accepted gives another one.
if redis.call('HGET', meta, 'title_of') == turn then redis.call('HDEL', meta, 'title', 'title_of') end
redis.call('ZREM', S .. ':turns', turn)
local counted = redis.call('HEXISTS', meta, 'turns') == 1 -- not if the session has expired: that would begin a new one
if counted and (list ~= '' or keys > 0) then redis.call('HINCRBY', meta, 'turns', -1) end
forget_in_transcript(turn)
if redis.call('EXISTS', S .. ':outbox') == 1 then reindex(now_ms()) end
redis.call('SET', done, keys .. ':' .. messages, 'PX', 60000)
return { 'forgotten', keys, messages }
