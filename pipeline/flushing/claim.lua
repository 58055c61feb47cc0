#!lua flags=allow-oom
-- Claim a batch: move counters out of the live keys into the journal of a named batch, until it has `limit` of them. A few
-- keys of event types go by GETDEL, and buckets by another name, each whole and at once, however large. Nothing is added to
-- a batch after that. A repeat takes nothing more and returns the same, so the call can be repeated.
--
-- KEYS  1 pending_flush   2 journal of this batch   3 batches   4 totals   5 dead
--       6… live buckets, from number 0, then as many buckets of this batch
-- ARGV  1 batch id   2 limit   3 epoch and 4 number of the newest claim that the ledger holds
-- Returns {pending left, claim ("epoch:number"), [fields of each bucket], [field of the journal, value, …]}; its number is 0
--         when nothing was there to take; {-1, epoch, number of claims} when Redis has gone back behind the ledger: then nothing is taken.

local pending, journal, batches, totals, dead = unpack(KEYS)
local id, limit = ARGV[1], tonumber(ARGV[2])
local LONGEST_COUNT = 20 -- characters of the smallest number that INCRBY can make
local NAMES = 500 -- taken by one claim: a key takes Redis some microseconds
local OPEN = 1e15 -- see OPEN of claims.py
local BUCKETS = (#KEYS - 5) / 2

local function fields_of(key) return math.max(0, redis.call('HLEN', key) - 1) end -- without the pad

local function reply(claim)
    local left, sizes = redis.call('SCARD', pending), {}
    for i = 6, 5 + BUCKETS do left, sizes[i - 5] = left + fields_of(KEYS[i]), fields_of(KEYS[i + BUCKETS]) end
    return { left, claim, sizes, redis.call('HGETALL', journal) }
end

local books = redis.call('HMGET', totals, 'epoch', 'claims')
local epoch, claims = tonumber(books[1]) or 0, tonumber(books[2]) or 0
local ahead = epoch - tonumber(ARGV[3])
if ahead < 0 or (ahead == 0 and claims < tonumber(ARGV[4])) then return { -1, epoch, claims } end

local claim = redis.call('HGET', journal, '#claim') -- no counter's name begins with #
local nothing = reply(epoch .. ':0') -- reading every structure also refuses one of the wrong type before the first write
redis.call('XLEN', dead)
if claim then return reply(claim) end
if limit == 0 or redis.call('ZSCORE', batches, id) then return nothing end -- nothing is wanted, or the batch is settled
local now = redis.call('TIME')

local named, taken = {}, 0
for _, name in ipairs(redis.call('SPOP', pending, math.min(limit, NAMES))) do
    local count = redis.pcall('GETDEL', name)
    if not count then
        redis.pcall('HINCRBY', totals, 'expired_counters', 1)
    elseif type(count) == 'string' and #count <= LONGEST_COUNT and string.match(count, '^%-?%d+$')
        and string.sub(name, 1, 1) ~= '#' then
        named[#named + 1], named[#named + 2], taken = name, count, taken + 1
    else -- a value that is not ours: it stays out of the books, but is not lost
        redis.call('XADD', dead, '*', 'kind', 'counter', 'counter', name, 'at_s', now[1],
            'count', type(count) == 'string' and count or '',
            'reason', type(count) == 'table' and count.err or 'the counter is not a whole number')
    end
end
for i = 6, 5 + BUCKETS do
    local fields = taken < limit and fields_of(KEYS[i]) or 0
    if fields > 0 then
        redis.call('RENAME', KEYS[i], KEYS[i + BUCKETS])
        redis.call('PERSIST', KEYS[i + BUCKETS])
        taken = taken + fields
    end
end
if taken == 0 then return nothing end

claim = epoch .. ':' .. claims + 1
redis.call('HSET', totals, 'claims', claims + 1)
redis.call('HSET', journal, '#claim', claim, unpack(named))
redis.call('ZADD', batches, string.format('%.0f', OPEN + tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)), id)
return reply(claim)
