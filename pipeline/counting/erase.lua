#!lua flags=allow-oom
-- Note that a user is forgotten from this moment on, and drop counters of theirs. May be repeated.
--
-- Called while no flush is under way, so that what a journal holds is in no flush's memory.
--
-- KEYS  1 forgotten   2 totals   3 pending_flush   4 batches
-- ARGV  1 digest of the user's id   2 prefix of the journals   3… counters to drop
-- Returns the moment (Unix ms). The version in the totals becomes another one, which no worker knows: microseconds, so that
-- a Redis that was put back does not come to an old version again.

local forgotten, totals, pending, batches = unpack(KEYS)
local now = redis.call('TIME')
local now_us = tonumber(now[1]) * 1000000 + tonumber(now[2])
local version = tonumber(redis.call('HGET', totals, 'forgotten_version')) or 0
redis.call('HLEN', forgotten)
redis.call('SCARD', pending)
local open = redis.call('ZRANGEBYSCORE', batches, '-inf', '0')

local at_ms = math.floor(now_us / 1000)
redis.call('HSET', forgotten, ARGV[1], string.format('%d', at_ms))
redis.call('HSET', totals, 'forgotten_version', string.format('%.0f', math.max(now_us, version + 1)))
for i = 3, #ARGV do
    redis.call('DEL', ARGV[i])
    redis.call('SREM', pending, ARGV[i])
    for _, id in ipairs(open) do redis.pcall('HDEL', ARGV[2] .. id, ARGV[i]) end
end
return at_ms
