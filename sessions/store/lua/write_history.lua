#!lua
-- Writes what the session object of another library was given: entries at the end of the history, or in the place of
-- its last ones, with the changes of state that belong to them.
-- At maxmemory the server refuses this script (no allow-oom), on purpose: it makes the store grow.
-- KEYS
--   S: base of the session (writes :history, :segments, :left, :branches and :outbox lists, :meta, :state and :adapters hashes,
--      :op:<id> string, the hash :sources of the lane ~transcript; reads :mailbox list, :waiting and :later zsets, :turn:<id> and :turn:<id>:journal hashes)
--   P: base of its partition (writes :wakeups zset, the indexes of sessions)
-- ARGV
--   operation: its id; a retry after a lost reply changes nothing and gets the same reply
--   user: who writes, or ''
--   owner: of the session, if this creates it, or ''
--   queue: Celery queue of the session, if this creates it
--   session_ttl_ms: '' leaves the session's ttl as it is
--   title: of the session if it has none, its bytes; or ''
--   searchable: of the session's transcript: '' leaves it as it is; default: 1 if nobody has decided yet
--   compact: whether the turns before the window are summarised: '' leaves it as it is; default: auto if nobody has decided yet
--   revision: of the history that the change was decided on; '' if there must be no session; any for all
--   at: position from which the last entries leave the history, or ''
--   leave: drop | branch (to stay readable)
--   replaced: turn of the first entry that leaves, for a branch
--   messages_cut: how many the entries have that leave
--   messages: how many the new ones have
--   turn: of the first new entry; without one, any new id
--   adapter: its name
--   record: what the library keeps besides its messages, its bytes; '' to leave it as it is
--   entries[]
--   changes[kind, field, a, b]: changes of the session's state, as write_state has them
--   effects[]: entries for the outbox
-- Returns
--   wrote: revision
--   moved (nothing was written: the history has another revision; decide again)
--   needed: by (nothing was written: this open turn has seen an entry that would leave, or replaces turns)
--   other_owner (the session belongs to another user)
--   packed_away: at (nothing was written: first the entries from this position on must be unpacked)
--!include clock
--!include session
--!include rights
--!include compaction
--!include branches
--!include state
--!include transcript
local meta, history, done = S .. ':meta', S .. ':history', S .. ':op:' .. operation
local before = redis.call('GET', done)
if before then return { 'wrote', before } end
if not allowed(user, 'write') then return { 'other_owner' } end
if revision ~= 'any' and revision ~= history_revision() then return { 'moved' } end
local place, now = tonumber(at), now_ms()
local by = place and place < history_length() and depends_on(place)
if by then return { 'needed', by } end
local dropped_whole = place == 0 and leave == 'drop'
if place and place < packed_entries() and not dropped_whole then return { 'packed_away', place } end

-- Removes the entries from the position on, for good.
local function drop()
  local dropped = history_length() - place
  cut_transcript(place)
  if place == 0 then forget_history() else trim_history(place) end
  redis.call('HINCRBY', meta, 'messages', 0 - messages_cut)
  redis.call('HINCRBY', meta, 'turns', 0 - dropped)
  cut_window(place)
  each_replacing('', function(id, wanted)
    if wanted >= place then redis.call('HSET', turn_key(id), 'replaces_gone', 'changed') end
  end)
end

redis.call('HSETNX', meta, 'created', now)
redis.call('HSETNX', meta, 'queue', queue)
if owner ~= '' then redis.call('HSETNX', meta, 'owner', owner) end
if title ~= '' and redis.call('HSETNX', meta, 'title', title) == 1 then redis.call('HSET', meta, 'title_of', turn) end
set_ttl(session_ttl_ms)
set_searchable(searchable, 'on:' .. operation)
set_compact(compact, now)
if place and place < history_length() then
  if leave == 'branch' then cut_off(turn, replaced, place, tonumber(messages_cut), now) else drop() end
end
for _, entry in ipairs(entries) do redis.call('RPUSH', history, entry) end
redis.call('HINCRBY', meta, 'messages', messages)
redis.call('HINCRBY', meta, 'turns', #entries)
for i = 1, #changes, 4 do change(S .. ':state', unpack(changes, i, i + 3)) end
for _, effect in ipairs(effects) do redis.call('RPUSH', S .. ':outbox', effect) end
note_history_changed(place)
if #entries > 0 and is_searchable() then note_transcript('wrote:' .. operation) end
if record ~= '' then
  redis.call('HSET', S .. ':adapters', adapter, record)
  redis.call('HSET', meta, 'recorded', history_revision())
end
note_use(now)
if redis.call('EXISTS', S .. ':outbox') == 1 then reindex(now) end
redis.call('SET', done, history_revision(), 'PX', 60000)
return { 'wrote', history_revision() }
