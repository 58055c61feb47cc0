#!lua flags=no-writes
-- What the event log holds at this moment.
--
-- KEYS  1 hash of sizes   2… streams
-- ARGV  1 consumer group
-- Returns {this server's clock (ms), [size field, value, …],
--          [[position of a stream that exists (from 1), entries, id of the first or '', [XINFO of a consumer, …]], …]}.

local now = redis.call('TIME')
local found = {}
for i = 2, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 1 then
        local first = redis.call('XRANGE', KEYS[i], '-', '+', 'COUNT', 1)[1]
        local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[i], ARGV[1])
        if consumers.err then consumers = {} end -- nothing was archived yet, so there is no group
        found[#found + 1] = { i - 1, redis.call('XLEN', KEYS[i]), first and first[1] or '', consumers }
    end
end
return { tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000), redis.call('HGETALL', KEYS[1]), found }
