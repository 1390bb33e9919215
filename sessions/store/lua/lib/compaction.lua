-- Compaction: a model summarises, in the background, the turns before the window, if `compact` of :meta is auto. After
-- `session`.
--
-- The summaries of a history continue one another, in a chain. It ends, and they are deleted, when one of the turns before
-- position `summary_to`, which they cover or are to cover, leaves the history. Fields of :meta:
--   summary, summary_upto: the summary that prompts have, and how many turns it covers
--   draft, draft_upto: a newer one that does not cover all that it is to cover yet
--   summary_by: the turn that wrote the newest of them
--   summary_chain, summary_version: the chain, and the version of the history in which its turns are as they were
--   summary_to, summary_asked: how many turns are to be covered, and when that was asked for or made progress
--   summary_due: how many were to be covered when that was first asked for after the last complete summary: as soon as a
--      summary covers these, it is complete, so that prompts get one even if the window moves all the time
local ASK_AGAIN_MS = 600000 -- work without progress for so long has failed

local function forget_summary()
  redis.call('HDEL', S .. ':meta', 'summary', 'summary_upto', 'draft', 'draft_upto', 'summary_by', 'summary_chain',
    'summary_version', 'summary_to', 'summary_asked', 'summary_due')
end

-- The chain whose turns are as they were; nil for none. A script of an earlier version that changes the history does not
-- carry the version along, so its change ends the chain.
local function summary_chain()
  local m = redis.call('HMGET', S .. ':meta', 'summary_chain', 'summary_version', 'history_version')
  return m[1] and m[2] == (m[3] or '0') and m[1] or nil
end

-- The history has this version now, and is as it was before position `at`.
local function keep_summary(at, version)
  local m = redis.call('HMGET', S .. ':meta', 'summary_chain', 'summary_version', 'summary_to')
  if not m[1] then return end
  if at >= tonumber(m[3]) and tonumber(m[2]) == version - 1 then
    redis.call('HSET', S .. ':meta', 'summary_version', version)
  else
    forget_summary()
  end
end

-- Has a worker summarise the turns before the window, unless they are summarised or that was asked for. The caller
-- reindexes.
local function ask_for_summary(now)
  local meta = S .. ':meta'
  local m = redis.call('HMGET', meta, 'compact', 'window_at', 'history_version')
  local to = tonumber(m[2] or '') or 0
  if m[1] ~= 'auto' or to == 0 then return end
  local chain = summary_chain()
  if not chain then
    forget_summary()
    chain = (m[3] or '0') .. '.' .. now
    redis.call('HSET', meta, 'summary_chain', chain, 'summary_version', m[3] or '0')
  end
  local s = redis.call('HMGET', meta, 'summary_upto', 'summary_to', 'summary_asked')
  if (tonumber(s[1] or '') or 0) >= to then return end
  if tonumber(s[2] or '') == to and now - tonumber(s[3]) < ASK_AGAIN_MS then return end
  redis.call('HSET', meta, 'summary_to', to, 'summary_asked', now)
  redis.call('HSETNX', meta, 'summary_due', to)
  redis.call('RPUSH', S .. ':outbox', cjson.encode({ kind = 'compact', chain = chain, to = to, at = tostring(now) }))
end

-- auto or off; '' leaves it as it is, and `default` is auto for a session about which nobody has decided yet.
local function set_compact(wanted, now)
  local before = redis.call('HGET', S .. ':meta', 'compact')
  if wanted == '' or wanted == before or (wanted == 'default' and before) then return end
  redis.call('HSET', S .. ':meta', 'compact', wanted == 'off' and 'off' or 'auto')
  if wanted == 'off' then forget_summary() else ask_for_summary(now) end
end

-- The summary for the prompt of a turn with so many turns before it, as it is stored; or nil.
local function summary_before(upto)
  if not summary_chain() then return nil end
  local m = redis.call('HMGET', S .. ':meta', 'summary', 'summary_upto')
  return m[1] and tonumber(m[2]) <= upto and m[1] or nil
end
