#!lua flags=allow-oom
-- Note that a user is forgotten from this moment on, and drop counters of theirs. May be repeated.
--
-- Called while no flush is under way, so that what a journal holds is in no flush's memory.
--
-- KEYS  1 forgotten   2 totals   3 pending_flush   4 batches   5 the user's live bucket
-- ARGV  1 digest of the user's id   2 prefix of the journals   3 the bucket's number   4… counters to drop: a name, its field
-- Returns the moment (Unix ms). The version in the totals becomes another one, which no worker knows: microseconds, so that
-- a Redis that was put back does not come to an old version again.

local forgotten, totals, pending, batches, live = unpack(KEYS)
local now = redis.call('TIME')
local now_us = tonumber(now[1]) * 1000000 + tonumber(now[2])
local version = tonumber(redis.call('HGET', totals, 'forgotten_version')) or 0
redis.call('HLEN', forgotten)
redis.call('SCARD', pending)
redis.call('HLEN', live)
local open = {}
for _, range in ipairs({ { '-inf', '0' }, { '1e15', '+inf' } }) do -- see OPEN of claims.py
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', batches, unpack(range))) do open[#open + 1] = ARGV[2] .. id end
end

local at_ms = math.floor(now_us / 1000)
redis.call('HSET', forgotten, ARGV[1], string.format('%d', at_ms))
redis.call('HSET', totals, 'forgotten_version', string.format('%.0f', math.max(now_us, version + 1)))
for i = 4, #ARGV, 2 do
    local name, field = ARGV[i], ARGV[i + 1]
    redis.call('HDEL', live, field)
    redis.call('DEL', name) -- the version before gave each counter a key
    redis.call('SREM', pending, name)
    for _, journal in ipairs(open) do
        redis.pcall('HDEL', journal, name)
        redis.pcall('HDEL', journal .. ':' .. ARGV[3], field)
    end
end
return at_ms
