-- ARGV: cursor, pattern of all keys of the domain. Takes away, bit by bit, what belongs to earlier lives; a later one
-- may be about to begin.
local life = tonumber(redis.call('HGET', KEYS[1] .. 'meta', 'life') or '0')
local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', 500)
for _, key in ipairs(found[2]) do
  local of = string.match(string.sub(key, #KEYS[1] + 1), '^(%d+):')
  if of and tonumber(of) < life then redis.call('UNLINK', key) end
end
return found[1]
