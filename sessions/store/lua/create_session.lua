#!lua
-- Creates a session, empty or from a copy that was written into its partition: the last step of a fork or an import.
-- KEYS
--   S: base of the session (writes :meta hash, :state hash, :agents hash, :memory:log stream; and, from what was
--      written under the name :copy:<id> of each, :history list, :memory hash, :memory:vectors hash,
--      :memory:texts hash, :files hash, :file:<id> hash, :checkpoints hash; writes :outbox list)
--   P: base of its partition (writes :wakeups zset, the indexes of sessions)
-- ARGV
--   copy: id of the operation, and of the copy
--   user: id, or ''
--   queue: Celery queue of the session
--   session_ttl_ms: or ''
--   messages: how many the history has
--   turns: how many the history has
--   origin: the session it was copied from, or what it was imported from; or ''
--   title: its bytes, or ''
--   auto_title: 1 if a model writes the title after the first turn, else 0
--   metadata: their bytes, or ''
--   hidden: 1 if no list shows the session, else 0
--   searchable: 1 or 0, whether its transcript is searchable; '' if nobody has decided
--   compact: auto or off, whether the turns before the window are summarised; '' if nobody has decided
--   counts[field, value]: further fields of :meta, such as the tokens that an imported session has used
--   state[field, value]
--   agents[name, config]: configuration as JSON
-- Returns
--   created
--   exists
--!include clock
--!include session
--!include memory
--!include transcript
--!include compaction
local now, meta = now_ms(), S .. ':meta'
if redis.call('HGET', meta, 'made_by') == copy then return { 'created' } end -- Retry after a lost reply.
if redis.call('EXISTS', meta, S .. ':mailbox', S .. ':state', S .. ':memory') > 0 then return { 'exists' } end
redis.call('HSET', meta, 'created', now, 'queue', queue, 'messages', messages, 'turns', turns, 'made_by', copy, 'open', 0)
if origin ~= '' then redis.call('HSET', meta, 'forked_from', origin) end
if user ~= '' then redis.call('HSET', meta, 'owner', user) end
if title ~= '' then redis.call('HSET', meta, 'title', title) end
if auto_title == '1' then redis.call('HSET', meta, 'titling', 'wanted') end
if metadata ~= '' then redis.call('HSET', meta, 'metadata', metadata) end
if hidden == '1' then redis.call('HSET', meta, 'hidden', 1) end
if session_ttl_ms ~= '' then redis.call('HSET', meta, 'ttl', session_ttl_ms) end
local function bring(name)
  local written = name .. ':copy:' .. copy
  if redis.call('EXISTS', written) == 1 then
    redis.call('RENAME', written, name)
    redis.call('PERSIST', name)
  end
end
for i = 1, #counts, 2 do redis.call('HSET', meta, counts[i], counts[i + 1]) end
local brought = { ':history', ':memory', ':memory:vectors', ':memory:texts', ':files', ':checkpoints' }
for _, name in ipairs(brought) do bring(S .. name) end
for _, id in ipairs(redis.call('HKEYS', S .. ':files')) do bring(file_key(id)) end
if redis.call('EXISTS', S .. ':memory') == 1 then note_change('copy', origin) end
for i = 1, #state, 2 do redis.call('HSET', S .. ':state', state[i], state[i + 1]) end
for i = 1, #agents, 2 do redis.call('HSET', S .. ':agents', agents[i], agents[i + 1]) end
set_searchable(searchable, 'on:' .. copy)
set_compact(compact, now)
note_use(now)
if redis.call('EXISTS', S .. ':outbox') == 1 then reindex(now) end
return { 'created' }
