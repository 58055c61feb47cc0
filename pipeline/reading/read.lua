#!lua flags=no-writes
-- What Redis holds of some counters at this moment: their live counts, and what open batches hold of them.
--
-- KEYS  1 batches   2 totals
-- ARGV  1 prefix of the journals   2 MessagePack: [counter, …]
-- Returns {epoch and number of the newest claim, [live count or nil, …],
--          [[id of an open batch, its claim ("epoch:number"), position of a counter (from 1), its count, …], …]}.

local CHUNK = 4000 -- Lua's unpack() is bounded by its stack
local counters = cmsgpack.unpack(ARGV[2])

local live, open = {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '0')) do open[id] = { id } end
for first = 1, #counters, CHUNK do
    local last = math.min(first + CHUNK - 1, #counters)
    for i, count in ipairs(redis.call('MGET', unpack(counters, first, last))) do live[first + i - 1] = count end
    for id, found in pairs(open) do
        local held = redis.call('HMGET', ARGV[1] .. id, '#claim', unpack(counters, first, last))
        found[2] = held[1]
        for i = 2, #held do
            if held[i] then found[#found + 1], found[#found + 2] = first + i - 2, held[i] end
        end
    end
end
local claimed = {}
for _, found in pairs(open) do
    if #found > 2 then claimed[#claimed + 1] = found end
end
local claim = redis.call('HMGET', KEYS[2], 'epoch', 'claims')
return {
    tonumber(claim[1]) or 0, tonumber(claim[2]) or 0,
    live, claimed,
}
