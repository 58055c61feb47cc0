#!lua flags=allow-oom
-- Put one unacknowledged message back into the queues that its exchange leads to, if it is still there.
--
-- KEYS  1 unacked hash   2 unacked index   3… lists of its queues
-- ARGV  1 delivery tag   2 RPUSH for the consuming end, LPUSH for the other   3 the message
-- Returns 1, or 0 when it was no longer there.

redis.call('ZCARD', KEYS[2])
for i = 3, #KEYS do redis.call('LLEN', KEYS[i]) end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
for i = 3, #KEYS do redis.call(ARGV[2], KEYS[i], ARGV[3]) end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
