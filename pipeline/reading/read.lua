#!lua flags=no-writes
-- What Redis holds of some counters at this moment: their live counts, and what open batches hold of them; and what was
-- logged and waits for the archive.
--
-- KEYS  1 batches   2 totals   3… streams of the event log
-- ARGV  1 prefix of live buckets   2 prefix of journals
--       3 MessagePack: {[counter, …], [[bucket, [position of a counter, from 1, …], [its field, …]], …],
--                       [per stream the id after which entries are wanted]}
-- Returns {epoch and number of the newest claim, [position of a counter, its live count, …],
--          [[id of an open batch, its claim ("epoch:number"), position of a counter, its count, …], …],
--          [per stream its entries]}. A position may come twice: the version before gave each counter a key.

local CHUNK = 4000 -- Lua's unpack() is bounded by its stack
local counters, buckets, after = unpack(cmsgpack.unpack(ARGV[3]))

-- Adds what is there to `found`, as position and count.
local function look(found, command, key, names, positions)
    for first = 1, #names, CHUNK do
        local last = math.min(first + CHUNK - 1, #names)
        local held = key and redis.call(command, key, unpack(names, first, last)) or redis.call(command, unpack(names, first, last))
        for i, count in ipairs(held) do
            if count then
                local at = first + i - 1
                found[#found + 1], found[#found + 2] = positions and positions[at] or at, count
            end
        end
    end
end

local live, claimed, entries = {}, {}, {}
look(live, 'MGET', nil, counters)
for _, one in ipairs(buckets) do look(live, 'HMGET', ARGV[1] .. one[1], one[3], one[2]) end
for _, range in ipairs({ { '-inf', '0' }, { '1e15', '+inf' } }) do -- see OPEN of claims.py
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], unpack(range))) do
        local journal = ARGV[2] .. id
        local found = { id, redis.call('HGET', journal, '#claim') }
        look(found, 'HMGET', journal, counters)
        for _, one in ipairs(buckets) do look(found, 'HMGET', journal .. ':' .. one[1], one[3], one[2]) end
        if #found > 2 then claimed[#claimed + 1] = found end
    end
end
for i, id in ipairs(after) do entries[i] = redis.call('XRANGE', KEYS[2 + i], '(' .. id, '+') end
local claim = redis.call('HMGET', KEYS[2], 'epoch', 'claims')
return { tonumber(claim[1]) or 0, tonumber(claim[2]) or 0, live, claimed, entries }
