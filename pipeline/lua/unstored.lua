#!lua flags=no-writes
-- What Postgres does not have, of one instant: counters and entries of the event log. Asked while nothing moves from here
-- to Postgres, so that whatever is in the journal of an open batch, the ledger has or has not, for good.
--
-- KEYS  1 batches   2… streams of the event log
-- ARGV  1 prefix of the journals   2 MessagePack: {counters, ids of open batches that the ledger holds,
--                                                 per stream the id after which entries are wanted}
-- Returns {[one list for the live counters and one for each journal: per counter its count as text, or false],
--          [per stream its entries]}.

local counters, stored_ids, after = unpack(cmsgpack.unpack(ARGV[2]))
local stored = {}
for _, id in ipairs(stored_ids) do stored[id] = true end

local live = {}
for i, counter in ipairs(counters) do
    local count = redis.pcall('GET', counter)
    live[i] = type(count) == 'string' and count
end
local lists = { live }
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '0')) do
    if not stored[id] then
        local held = {}
        for first = 1, #counters, 4000 do
            local some = redis.call('HMGET', ARGV[1] .. id, unpack(counters, first, math.min(first + 3999, #counters)))
            for i, count in ipairs(some) do held[first + i - 1] = count end
        end
        lists[#lists + 1] = held
    end
end

local entries = {}
for i = 2, #KEYS do
    entries[i - 1] = redis.call('XRANGE', KEYS[i], '(' .. after[i - 1], '+')
end
return { lists, entries }
