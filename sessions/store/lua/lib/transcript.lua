-- Transcript search: a worker of the retrieval role keeps an index of the session's history, if the session is searchable.
-- After `session`.

-- The history has changed, or is to be searched from now on, or no longer. An entry of the outbox has a worker bring the
-- index up to date; `why` is different for each change, so that each is submitted once. The caller reindexes.
local function note_transcript(why)
  redis.call('RPUSH', S .. ':outbox', cjson.encode({ kind = 'transcript', why = why }))
end

local function is_searchable()
  return redis.call('HGET', S .. ':meta', 'searchable') == '1'
end

-- 1 or 0; '' leaves it as it is, and `default` turns it on for a session about which nobody has decided yet.
local function set_searchable(wanted, why)
  local before = redis.call('HGET', S .. ':meta', 'searchable')
  if wanted == '' or wanted == before or (wanted == 'default' and before) then return end
  redis.call('HSET', S .. ':meta', 'searchable', wanted == '0' and '0' or '1')
  if before == '1' or (wanted ~= '0' and redis.call('EXISTS', S .. ':history', S .. ':segments') > 0) then note_transcript(why) end
end

-- The index may have a turn that is deleted now, and a worker reads this to remove it. A lane whose index is not begun has
-- nothing to remove.
local function forget_in_transcript(id)
  local known = S .. '~transcript:sources'
  if redis.call('EXISTS', known) == 0 then return end
  redis.call('HSET', known, 'gone:' .. id, '1')
  note_transcript('gone:' .. id)
end

-- The turns from this position on have left the history without a branch, or are about to be written anew.
local function cut_transcript(at)
  local known = S .. '~transcript:sources'
  if redis.call('EXISTS', known) == 0 then return end
  local cut = 'cut:' .. (redis.call('HGET', S .. ':meta', 'history_version') or '0')
  redis.call('HSET', known, cut, at)
  note_transcript(cut)
end
