#!lua
-- Rewinds a session's state to a checkpoint. History is never cut: that is what a fork is for.
-- KEYS 1 session base   (writes :state hash, :op:<id> string; reads :checkpoints hash, :meta hash)
-- KEYS 2 partition base
-- ARGV 1 number of the checkpoint · 2 user id, or '' · 3 operation id: sent again, it changes nothing
-- Returns restored, the checkpoint (JSON) | missing | owner
--!include clock
--!include session
S, P = KEYS[1], KEYS[2]
local owner = redis.call('HGET', S .. ':meta', 'owner')
if ARGV[2] ~= '' and owner and owner ~= ARGV[2] then return { 'owner' } end
local raw = redis.call('HGET', S .. ':checkpoints', ARGV[1])
if not raw then return { 'missing' } end
if redis.call('SET', S .. ':op:' .. ARGV[3], 1, 'PX', 60000, 'NX') == false then return { 'restored', raw } end
redis.call('DEL', S .. ':state')
for field, value in pairs(cjson.decode(raw).state) do redis.call('HSET', S .. ':state', field, value) end
set_expiry(now_ms())
return { 'restored', raw }
