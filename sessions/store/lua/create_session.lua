#!lua
-- Makes a session, empty or out of a copy that was brought into its partition: the last step of a fork or an import.
-- KEYS 1 session base   (writes :meta hash, :state hash, :agents hash, :memory:log stream; and, from what was
--                        brought under the name :copy:<id> of each, :history list, :memory hash, :memory:vectors hash)
-- KEYS 2 partition base
-- ARGV 1 operation id, which names the copy · 2 user id, or '' · 3 queue · 4 session ttl (ms), or ''
--      5 messages in the history · 6 turns in it · 7 where it comes from, or '' · 8 number of state fields
--      9... field, value of each state field, then name, configuration (JSON) of each agent
-- Returns created | exists
--!include clock
--!include session
--!include memory
S, P = KEYS[1], KEYS[2]
local now, meta = now_ms(), S .. ':meta'
if redis.call('HGET', meta, 'made_by') == ARGV[1] then return { 'created' } end -- sent again after a lost reply
if redis.call('EXISTS', meta, S .. ':mailbox', S .. ':state', S .. ':memory') > 0 then return { 'exists' } end
redis.call('HSET', meta, 'created', now, 'queue', ARGV[3], 'messages', ARGV[5], 'turns', ARGV[6], 'made_by', ARGV[1], 'open', 0)
if ARGV[7] ~= '' then redis.call('HSET', meta, 'forked_from', ARGV[7]) end
if ARGV[2] ~= '' then redis.call('HSET', meta, 'owner', ARGV[2]) end
if ARGV[4] ~= '' then redis.call('HSET', meta, 'ttl', ARGV[4]) end
for _, name in ipairs({ S .. ':history', S .. ':memory', S .. ':memory:vectors' }) do
  local copy = name .. ':copy:' .. ARGV[1]
  if redis.call('EXISTS', copy) == 1 then
    redis.call('RENAME', copy, name)
    redis.call('PERSIST', name)
  end
end
if redis.call('EXISTS', S .. ':memory') == 1 then note_change('copy', ARGV[7]) end
local first_agent = 9 + 2 * ARGV[8]
for i = 9, #ARGV, 2 do
  redis.call('HSET', S .. (i < first_agent and ':state' or ':agents'), ARGV[i], ARGV[i + 1])
end
set_expiry(now)
return { 'created' }
