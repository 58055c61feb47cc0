#!lua flags=no-writes
-- Everything that the books are checked with, of one instant. A script, since a full server refuses MULTI.
--
-- KEYS  1 unacked hash   2 pending_flush   3 batches   4 totals   5… lists of the events queue
-- Returns {messages waiting, [delivery tags unacknowledged], pending counters, open batches, [field, value, …]}.

local waiting = 0
for i = 5, #KEYS do waiting = waiting + redis.call('LLEN', KEYS[i]) end
return {
    waiting,
    redis.call('HKEYS', KEYS[1]),
    redis.call('SCARD', KEYS[2]),
    redis.call('ZCOUNT', KEYS[3], '-inf', '0'),
    redis.call('HGETALL', KEYS[4]),
}
