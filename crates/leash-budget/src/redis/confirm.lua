-- ARGV: ids of expired holds whose lines are written.
for i = 4, #ARGV do
  call('HDEL', d .. 'x', ARGV[i])
  call('ZREM', d .. 'o', ARGV[i])
end
return {'ok', wrote(), {}}
