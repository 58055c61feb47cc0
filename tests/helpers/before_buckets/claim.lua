#!lua flags=allow-oom
-- Move up to `limit` counters out of the live keys into the journal of a named batch, part by part, at the pace of pace.py.
-- A part that was taken before returns all that the batch holds and takes nothing more, so the call can be repeated.
--
-- KEYS  1 pending_flush   2 journal of this batch   3 batches   4 totals   5 dead
-- ARGV  1 batch id   2 limit   3 epoch and 4 number of the newest claim that the ledger holds   5 the part, from 1
-- Returns {pending left, epoch, claim number, counter, count, …}; claim number 0 when nothing was there to take;
--         {-1, epoch, number of claims} when Redis has gone back behind the ledger: then nothing is taken.

local pending, journal, batches, totals, dead = unpack(KEYS)
local id, limit, part = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5])
local CLAIM, PARTS = '#claim', '#parts' -- fields with "epoch:number" and the newest part; no counter's name begins with #
local LONGEST_COUNT = 20 -- characters of the smallest number that INCRBY can make
local SCANS = 50 -- a set that has shrunk has long stretches without a name
local CHUNK = 2000 -- Lua's unpack() is bounded by its stack

local function in_chunks(list, act)
    for first = 1, #list, CHUNK do act({ unpack(list, first, math.min(first + CHUNK - 1, #list)) }) end
end

local books = redis.call('HMGET', totals, 'epoch', 'claims', 'pending_cursor')
local epoch, claims = tonumber(books[1]) or 0, tonumber(books[2]) or 0
local stored_epoch, stored_claim = tonumber(ARGV[3]), tonumber(ARGV[4])
if epoch < stored_epoch or (epoch == stored_epoch and claims < stored_claim) then return { -1, epoch, claims } end

local claim, parts, taken_over = unpack(redis.call('HMGET', journal, CLAIM, PARTS, '#taken_over'))
local held_number = 0
if claim then
    epoch, held_number = string.match(claim, '^(%d+):(%d+)$')
    epoch, held_number = tonumber(epoch), tonumber(held_number)
    if part <= (tonumber(parts) or part) then
        local reply = { redis.call('SCARD', pending), epoch, held_number }
        local held = redis.call('HGETALL', journal)
        for i = 1, #held, 2 do
            if string.sub(held[i], 1, 1) ~= '#' then reply[#reply + 1], reply[#reply + 2] = held[i], held[i + 1] end
        end
        return reply
    end
    if taken_over then return { redis.call('SCARD', pending), epoch, held_number } end
elseif redis.call('ZSCORE', batches, id) then -- settled
    return { redis.call('SCARD', pending), epoch, 0 }
end

redis.call('XLEN', dead)
local now = redis.call('TIME')

-- In the order of the set's own table, from where the last claim ended: names at random (SPOP) take Redis twice as long.
local cursor, names, scans = books[3] or '0', {}, 0
while #names < limit and scans < SCANS and redis.call('EXISTS', pending) == 1 do
    scans = scans + 1
    local found
    cursor, found = unpack(redis.call('SSCAN', pending, cursor, 'COUNT', limit - #names))
    for i = #found, limit - #names + 1, -1 do found[i] = nil end
    in_chunks(found, function(some) redis.call('SREM', pending, unpack(some)) end)
    for _, name in ipairs(found) do names[#names + 1] = name end
end
if scans > 0 then redis.call('HSET', totals, 'pending_cursor', cursor) end

local taken, counts, expired = {}, {}, 0
local function take(name, count)
    if not count then
        expired = expired + 1
    elseif type(count) == 'string' and #count <= LONGEST_COUNT and string.match(count, '^%-?%d+$')
        and string.sub(name, 1, 1) ~= '#' then
        taken[#taken + 1], counts[name] = name, count
    else -- a value that is not ours: it stays out of the books, but is not lost
        redis.call('XADD', dead, '*', 'kind', 'counter', 'counter', name, 'at_s', now[1],
            'count', type(count) == 'string' and count or '',
            'reason', type(count) == 'table' and count.err or 'the counter is not a whole number')
    end
end
-- GETDEL, of all that are text by one call: MGET, then DEL. Of what is no text GETDEL itself tells.
in_chunks(names, function(some)
    local texts = {}
    for i, count in ipairs(redis.call('MGET', unpack(some))) do
        if count then texts[#texts + 1] = some[i] end
        take(some[i], count or redis.pcall('GETDEL', some[i]))
    end
    if #texts > 0 then redis.call('DEL', unpack(texts)) end
end)
if expired > 0 then redis.pcall('HINCRBY', totals, 'expired_counters', expired) end
if #taken == 0 then return { redis.call('SCARD', pending), epoch, held_number } end

-- Each part takes a number, and the batch has that of its newest: what a batch takes after a read began shows by it.
local number = claims + 1
redis.call('HSET', totals, 'claims', number)
redis.call('HSET', journal, CLAIM, epoch .. ':' .. number, PARTS, part)
if not claim then
    -- The score of an open batch is the negative time of its claim, that of a settled one the time it was settled (ms).
    redis.call('ZADD', batches, -(tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)), id)
end
local reply = { redis.call('SCARD', pending), epoch, number }
in_chunks(taken, function(some)
    local held = claim and redis.call('HMGET', journal, unpack(some)) or {} -- by earlier parts, and counted anew since
    local fresh = {}
    for i, name in ipairs(some) do
        reply[#reply + 1], reply[#reply + 2] = name, counts[name]
        if held[i] then
            redis.call('HINCRBY', journal, name, counts[name])
        else
            fresh[#fresh + 1], fresh[#fresh + 2] = name, counts[name]
        end
    end
    if #fresh > 0 then redis.call('HSET', journal, unpack(fresh)) end
end)
return reply
