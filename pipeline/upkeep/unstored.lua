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

local CHUNK = 4000 -- Lua's unpack() is bounded by its stack
local function in_chunks(command, ...)
    local found, head = {}, { ... }
    for first = 1, #counters, CHUNK do
        local arguments = { unpack(head) }
        for i = first, math.min(first + CHUNK - 1, #counters) do arguments[#arguments + 1] = counters[i] end
        for i, count in ipairs(redis.call(command, unpack(arguments))) do found[first + i - 1] = count end
    end
    return found
end

local lists = { in_chunks('MGET') }
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '0')) do
    if not stored[id] then
        lists[#lists + 1] = in_chunks('HMGET', ARGV[1] .. id)
    end
end

local entries = {}
for i = 2, #KEYS do
    entries[i - 1] = redis.call('XRANGE', KEYS[i], '(' .. after[i - 1], '+')
end
return { lists, entries }
