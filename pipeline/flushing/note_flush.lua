#!lua flags=allow-oom
-- Note that the counters pending now came after a flush began. May be repeated. A script, because a plain HSET is
-- refused at maxmemory, and a flush is what makes room.
--
-- KEYS  1 totals
-- ARGV  1 when the flush began (Unix seconds, this server's clock)

return redis.call('HSET', KEYS[1], 'pending_since_s', ARGV[1])
