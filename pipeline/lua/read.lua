#!lua flags=no-writes
-- Sum what Postgres did not hold when it was read: live counters, and journals of the batches it did not have.
-- A batch that was settled when the read began had been stored before, so only those that were open then matter, and those
-- that were claimed since.
--
-- KEYS  1 batches
-- ARGV  1 prefix of the journals   2 when the read began (ms, this server's clock)   3 its longest duration (ms)
--       4 MessagePack: {counters, ids of the batches that the ledger held, ids of those open when the read began,
--                       epoch and number of the newest claim at that moment}
-- Returns {[one sum a counter], [position of a counter, count as text, …]}: the second list is to be added to the first;
--         or -1 when the read took too long and must start again.

local EXACT = 12 -- digits: numbers here are doubles, and 2^53 holds the sum of thousands of counts of so many digits
local LONGEST_COUNT = 20 -- characters of the smallest number that INCRBY can make

local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
if now_ms - tonumber(ARGV[2]) > tonumber(ARGV[3]) then return -1 end
local counters, stored_ids, open_ids, epoch, claims = unpack(cmsgpack.unpack(ARGV[4]))
local done = {} -- batches not to be added, or not again
for _, id in ipairs(stored_ids) do done[id] = true end

local sums, long = {}, {}
local function add(position, count)
    if type(count) ~= 'string' or #count > LONGEST_COUNT or not string.match(count, '^%-?%d+$') then return end
    if #count <= EXACT then
        sums[position] = sums[position] + tonumber(count)
    else
        long[#long + 1], long[#long + 2] = position, count
    end
end
for i, counter in ipairs(counters) do
    sums[i] = 0
    add(i, redis.pcall('GET', counter))
end
local function add_journal(id)
    if done[id] then return end
    done[id] = true
    for first = 1, #counters, 4000 do
        local held = redis.call('HMGET', ARGV[1] .. id, unpack(counters, first, math.min(first + 3999, #counters)))
        for i, count in ipairs(held) do add(first + i - 1, count) end
    end
end
local function was_claimed_since(id)
    local its_epoch, number = string.match(redis.call('HGET', ARGV[1] .. id, '#claim') or '', '^(%d+):(%d+)$')
    if not number then return false end
    its_epoch, number = tonumber(its_epoch), tonumber(number)
    return its_epoch > epoch or (its_epoch == epoch and number > claims)
end

for _, id in ipairs(open_ids) do add_journal(id) end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '0')) do add_journal(id) end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[2], '+inf')) do
    if not done[id] and was_claimed_since(id) then add_journal(id) end
end
return { sums, long }
