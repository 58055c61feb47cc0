#!lua flags=no-writes
-- Sum what the store does not hold yet: live counters, and journals of batches that are not in the ledger.
--
-- KEYS  1 batches
-- ARGV  1 prefix of the journals   2 when the read began (ms, this server's clock)   3 its longest duration (ms)
--       4 MessagePack: {counters, ids of the batches that the ledger holds}
--       5 how long a settled journal may still be there (ms)
-- Returns one sum a counter, or -1 when the read took too long and must start again.

local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
if now_ms - tonumber(ARGV[2]) > tonumber(ARGV[3]) then return -1 end
local question = cmsgpack.unpack(ARGV[4])
local counters = question[1]
local stored = {}
for _, id in ipairs(question[2]) do stored[id] = true end

local sums = {}
for i, counter in ipairs(counters) do
    local count = redis.pcall('GET', counter)
    sums[i] = type(count) == 'string' and tonumber(count) or 0
end
local function add_journals(first, last)
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], first, last)) do
        if not stored[id] then
            for chunk = 1, #counters, 4000 do
                local held = redis.call('HMGET', ARGV[1] .. id,
                    unpack(counters, chunk, math.min(chunk + 3999, #counters)))
                for i, count in ipairs(held) do
                    local at = chunk + i - 1
                    sums[at] = sums[at] + (tonumber(count or 0) or 0)
                end
            end
        end
    end
end
add_journals('-inf', '0')
add_journals(now_ms - tonumber(ARGV[5]), '+inf')
return sums
