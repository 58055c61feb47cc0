#!lua flags=allow-oom
-- Bind a queue to an exchange in kombu's tables. May be repeated.
--
-- KEYS  1 bindings of the exchange   2 those among them that do not expire
-- ARGV  1 the binding
-- Returns 1 when it is new, else 0.

redis.call('SCARD', KEYS[2])
local new = redis.call('SADD', KEYS[1], ARGV[1])
redis.call('SADD', KEYS[2], ARGV[1])
return new
