#!lua flags=no-writes
-- Everything that the books are checked with, of one instant. A script, since a full server refuses MULTI.
--
-- KEYS  1 unacked hash   2 pending_flush   3 batches   4 totals   5 delayed   6… live buckets, then lists of the events queue
-- ARGV  1 how many live buckets
-- Returns {messages waiting, [delivery tags unacknowledged], messages delayed, pending counters, open batches,
--          [field, value, …]}.

local waiting, counters = 0, redis.call('SCARD', KEYS[2])
local last = 5 + tonumber(ARGV[1])
for i = 6, last do counters = counters + math.max(0, redis.call('HLEN', KEYS[i]) - 1) end -- without the pad
for i = last + 1, #KEYS do waiting = waiting + redis.call('LLEN', KEYS[i]) end
return {
    waiting,
    redis.call('HKEYS', KEYS[1]),
    redis.call('ZCARD', KEYS[5]),
    counters,
    redis.call('ZCOUNT', KEYS[3], '-inf', '0') + redis.call('ZCOUNT', KEYS[3], '1e15', '+inf'), -- see OPEN of claims.py
    redis.call('HGETALL', KEYS[4]),
}
