#!lua
-- Changes the title and the metadata of a session, whether its transcript is searchable, and whether it is compacted. This
-- is no use of the session: it keeps its place in the lists and its expiry.
-- At maxmemory the server refuses this script (no allow-oom), on purpose: it makes the store grow.
-- KEYS
--   S: base of the session (writes :meta hash, :outbox list; reads :history and :segments lists)
--   P: base of its partition (writes :wakeups zset)
-- ARGV
--   user: id, or ''
--   title: its bytes, or '' to leave it as it is
--   by_model: 1 if a model wrote the title: nothing is changed if nobody waits for that any more; else 0
--   about: the turn that a model's title is about, or ''
--   auto: 1 to have a model write the title, now or after the first turn, else 0
--   expected: bytes of the metadata that the change was decided on, or '' for none
--   metadata: bytes of the new metadata; the same as expected to leave them as they are
--   searchable: 1 or 0; '' leaves it as it is
--   compact: auto or off; '' leaves it as it is
--   operation: id of this change
-- Returns
--   updated
--   missing (there is no such session)
--   other_owner (the session belongs to another user)
--   changed (nothing was written: the metadata have changed; decide again)
--!include clock
--!include session
--!include rights
--!include transcript
--!include compaction
local meta = S .. ':meta'
local m = redis.call('HMGET', meta, 'created', 'metadata', 'titling')
if not m[1] then return { 'missing' } end
if not allowed(user, 'write') then return { 'other_owner' } end
if by_model == '1' and m[3] ~= 'asked' then return { 'updated' } end
local there = m[2] or ''
if metadata ~= expected and there ~= expected then
  if there == metadata then return { 'updated' } end -- Retry after a lost reply.
  return { 'changed' }
end
if title ~= '' then
  redis.call('HSET', meta, 'title', title)
  redis.call('HDEL', meta, 'titling')
  -- What a model wrote goes with the turn that it is about (delete_turn); what somebody chose stays.
  if about ~= '' then
    redis.call('HSET', meta, 'title_of', about)
  elseif by_model == '0' then
    redis.call('HDEL', meta, 'title_of')
  end
end
if auto == '1' then
  redis.call('HSET', meta, 'titling', 'wanted')
  if redis.call('EXISTS', S .. ':history', S .. ':segments') > 0 then
    local time = now_ms()
    ask_for_title(time)
    reindex(time)
  end
end
if metadata ~= expected then redis.call('HSET', meta, 'metadata', metadata) end
set_searchable(searchable, 'on:' .. operation)
set_compact(compact, now_ms())
if redis.call('EXISTS', S .. ':outbox') == 1 then reindex(now_ms()) end
return { 'updated' }
