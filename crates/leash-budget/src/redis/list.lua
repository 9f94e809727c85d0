-- ARGV: limit, key and window after which to begin; the key is '' to begin at the start.
local limit, key, after = tonumber(ARGV[4]), ARGV[5], ARGV[6]
local order = { 't', 'm', 'h', 'd', 'o' }
local out, count = {}, 0
local keys = call('ZRANGEBYLEX', d .. 'keys', key == '' and '-' or '[' .. key, '+', 'LIMIT', 0, limit + 1)
for _, k in ipairs(keys) do
  local skip = k == key
  for _, w in ipairs(order) do
    if count < limit and not skip then
      local sum = read(k, w)
      if not sum.new then
        count = count + 1
        out[#out + 1] = k
        out[#out + 1] = w
        out[#out + 1] = num(sum.s)
        out[#out + 1] = num(sum.r)
      end
    end
    if k == key and w == after then skip = false end
  end
end
return {'list', seq, out}
