-- ARGV: id and charge of each line that is written.
local ids, gone = {}, {}
for i = 4, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local all = call('HMGET', d .. 'x', unpack(ids))
for i = 1, #ids do
  if all[i] then
    local held, cost = owed_of(all[i])
    -- A line that a late settlement has overtaken is not the one that is owed.
    if (cost or cmsgpack.unpack(held)[1]) == ARGV[3 + i * 2] then gone[#gone + 1] = ids[i] end
  end
end
if #gone == 0 then return {'ok', seq, {}} end
call('HDEL', d .. 'x', unpack(gone))
call('ZREM', d .. 'o', unpack(gone))
return {'ok', wrote(), {}}
