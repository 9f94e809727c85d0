-- Ids that have ended: 's' settled, 'r…' released, 'x…' expired and charged, with the hold as it was. Ids of one moment share
-- a small hash.
local KEPT_SECONDS = 90000
local function ended(id) return call('HGET', d .. 'e:' .. string.sub(id, 1, 10), string.sub(id, 11)) end
local function finish(id, how)
  local key = d .. 'e:' .. string.sub(id, 1, 10)
  call('HSET', key, string.sub(id, 11), how)
  call('EXPIRE', key, KEPT_SECONDS)
end
-- What is kept where a line is owed: the hold as it was, after `s`, the cost and `:` where it was settled. Without that it
-- has expired and was charged in full. Returns the hold and the cost.
local function owed_of(kept)
  local cost = string.match(kept, '^s(%d+):')
  if cost then return string.sub(kept, #cost + 3), cost end
  return kept
end
