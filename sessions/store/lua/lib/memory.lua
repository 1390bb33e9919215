-- The log of a scope's changed memories. A worker that keeps a copy of the memories reads only what is new in it. A copy
-- older than the oldest entry is read again as a whole, so the log can be short.

local LOG_ENTRIES = 1000 -- at least: the server removes whole nodes of the stream

-- Which memory has which content: `:memory:texts` has content digest -> id, and id -> content digest. Digests have 64
-- characters and ids fewer, so they do not meet.
local function same_memory(digests)
  for _, digest in ipairs(digests) do
    local id = redis.call('HGET', S .. ':memory:texts', digest)
    if id and redis.call('HEXISTS', S .. ':memory', id) == 1 then return id end
  end
end

local function forget_content(id)
  local texts = S .. ':memory:texts'
  local digest = redis.call('HGET', texts, id)
  if not digest then return end
  redis.call('HDEL', texts, id)
  if redis.call('HGET', texts, digest) == id then redis.call('HDEL', texts, digest) end
end

local function note_content(id, digests)
  forget_content(id)
  if digests[1] then redis.call('HSET', S .. ':memory:texts', id, digests[1], digests[1], id) end
end

local function note_change(word, id)
  redis.call('XADD', S .. ':memory:log', 'MAXLEN', '~', LOG_ENTRIES, '*', word, id)
end
