#!lua flags=allow-oom
-- Stores a summary of the turns before the window.
-- KEYS
--   S: base of the session (writes :meta hash)
--   P: base of its partition
-- ARGV
--   chain: of the summaries that it continues
--   by: the turn, of the lane ~compact, that wrote it
--   after: the turn that wrote the summary before it, or '' for the first one
--   upto: how many turns it covers
--   complete: 1 if these are as many as are due, so that prompts have it from now on; else 0
--   text: encrypted for the field that it is stored in: summary if it is complete, else draft
--   usage: of the turn that wrote it (JSON), which counts as the session's
-- Returns
--   kept
--   outdated (nothing was written: what it covers has changed, or another turn has written a later one)
--!include clock
--!include session
--!include compaction
local meta = S .. ':meta'
if summary_chain() ~= chain then return { 'outdated' } end
local newest = redis.call('HGET', meta, 'summary_by') or ''
if newest == by then return { 'kept' } end -- Retry after a lost reply.
if newest ~= after then return { 'outdated' } end
redis.call('HSET', meta, 'summary_asked', now_ms()) -- as long as there is progress, nobody need ask again
if complete == '1' then
  redis.call('HSET', meta, 'summary', text, 'summary_upto', upto, 'summary_by', by)
  redis.call('HDEL', meta, 'draft', 'draft_upto', 'summary_due')
  local to = redis.call('HGET', meta, 'summary_to')
  if tonumber(to) > tonumber(upto) then redis.call('HSET', meta, 'summary_due', to) end
else
  redis.call('HSET', meta, 'draft', text, 'draft_upto', upto, 'summary_by', by)
end
count_in_session(usage)
return { 'kept' }
