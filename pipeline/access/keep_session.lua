#!lua flags=allow-oom
-- Keep who signed in, or a link that signs in. Where Redis is full too: then people have to see why.
--
-- KEYS  1 session or link
-- ARGV  1 id of the read token   2 seconds for which it is kept
-- Returns 1.

redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
