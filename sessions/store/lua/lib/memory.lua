-- The log of a scope's changed memories. A worker that keeps a copy of the memories reads only what is new in it. A copy
-- older than the oldest entry is read again as a whole, so the log can be short.

local LOG_ENTRIES = 1000 -- at least: the server removes whole nodes of the stream

local function note_change(word, id)
  redis.call('XADD', S .. ':memory:log', 'MAXLEN', '~', LOG_ENTRIES, '*', word, id)
end
