#!lua flags=allow-oom
-- Takes back the admission of a turn that was not accepted: it was refused, or is a repeat of another one.
-- KEYS
--   T: base of the tenant's limits (writes :minute zset, :flight zset, :open zset; the same with ~<user>)
-- ARGV
--   turn: <session>~<id>
--   user: escaped, or ''
--   counts: 1 if its message counts among the turns of the minute all the same (it joined a running turn), else 0
-- Returns
--   withdrawn
local sets = { T .. ':flight', T .. ':open' }
if counts == '0' then sets[3] = T .. ':minute' end
for _, key in ipairs(sets) do
  redis.call('ZREM', key, turn)
  if user ~= '' then redis.call('ZREM', key .. '~' .. user, turn) end
end
return { 'withdrawn' }
