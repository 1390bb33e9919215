-- The changes of a scope's memories, so that whoever keeps a copy of them reads what is new and nothing else.
-- Whose copy is older than the oldest entry reads everything anew, so the log can be short.

local LOG_ENTRIES = 1000 -- about: whole nodes of the stream are cut off

local function note_change(word, id)
  redis.call('XADD', S .. ':memory:log', 'MAXLEN', '~', LOG_ENTRIES, '*', word, id)
end
