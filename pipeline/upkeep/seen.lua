#!lua flags=allow-oom
-- Note that a worker lives, by this server's clock. May be repeated.
--
-- KEYS  1 workers
-- ARGV  1 the worker: its kind and its name   2 seconds for which the longest silent one is remembered

local now_s = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now_s, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_s - tonumber(ARGV[2]))
return redis.call('EXPIRE', KEYS[1], ARGV[2])
