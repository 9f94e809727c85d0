-- Numbers a new life, which nobody sees until it is switched to.
return redis.call('HINCRBY', KEYS[1] .. 'meta', 'lives', 1)
