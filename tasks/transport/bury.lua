#!lua flags=allow-oom
-- Move one unacknowledged message, which no consumer can handle, to the dead letters.
--
-- KEYS  1 unacked hash   2 unacked index   3 dead   4 totals
-- ARGV  1 delivery tag   2 the message as it came   3 reason
-- Returns 1, or 0 when the message was no longer there: a repeat writes no second dead letter.

redis.call('ZCARD', KEYS[2])
redis.call('XLEN', KEYS[3])
redis.call('HLEN', KEYS[4])
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[3], '*', 'kind', 'message', 'body', ARGV[2], 'reason', ARGV[3], 'at_s', redis.call('TIME')[1])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
for _, field in ipairs({'consumed', 'dead', 'consumed:__unknown__', 'dead:__unknown__'}) do
    redis.pcall('HINCRBY', KEYS[4], field, 1)
end
return 1
