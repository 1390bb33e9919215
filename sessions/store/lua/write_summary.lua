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
--   complete: 1 if these are all that it is to cover, so that prompts have it from now on; else 0
--   text: encrypted for the field that it is stored in: summary if it is complete, else draft
--   usage: of the turn that wrote it (JSON), which counts as the session's
-- Returns
--   kept
--   outdated (nothing was written: what it covers has changed, or another turn has written a later one)
--!include session
--!include compaction
local meta = S .. ':meta'
if summary_chain() ~= chain then return { 'outdated' } end
local newest = redis.call('HGET', meta, 'summary_by') or ''
if newest == by then return { 'kept' } end -- Retry after a lost reply.
if newest ~= after then return { 'outdated' } end
if complete == '1' then
  redis.call('HSET', meta, 'summary', text, 'summary_upto', upto, 'summary_by', by)
  redis.call('HDEL', meta, 'draft', 'draft_upto')
else
  redis.call('HSET', meta, 'draft', text, 'draft_upto', upto, 'summary_by', by)
end
count_in_session(usage)
return { 'kept' }
