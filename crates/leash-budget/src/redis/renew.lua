-- ARGV: id, lease in µs or 'inf'. A lease is never made shorter.
call('ZADD', d .. 'l', 'XX', 'GT', ARGV[5] == 'inf' and '+inf' or num(now() + ARGV[5]), ARGV[4])
return {'ok', wrote(), {}}
