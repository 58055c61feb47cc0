#!lua flags=allow-oom
-- Add counters to others, live and in the journals of open batches. May be repeated: what is gone adds nothing.
--
-- Called while no flush is under way, so that what a journal holds is in no flush's memory.
--
-- KEYS  1 pending_flush   2 batches
-- ARGV  1 prefix of the journals   2… a counter, the one that it is added to ('' to drop it), and 1 where its count is
--       part of the answer, else 0; and so on
-- Returns the sum of these counts.

local pending, batches = unpack(KEYS)
redis.call('SCARD', pending)
local open, sum = redis.call('ZRANGEBYSCORE', batches, '-inf', '0'), 0

local function fold_live(name, into)
    local n, ttl_ms = redis.pcall('GET', name), redis.call('PTTL', name)
    if type(n) ~= 'string' then return 0 end -- none, or no counter of ours
    if into ~= '' then
        if type(redis.pcall('INCRBY', into, n)) ~= 'number' then return 0 end
        if redis.call('SADD', pending, into) == 1 and ttl_ms > 0 then redis.call('PEXPIRE', into, ttl_ms) end
    end
    redis.call('DEL', name)
    return tonumber(n)
end

local function fold_claimed(journal, name, into)
    local n = redis.pcall('HGET', journal, name)
    if type(n) ~= 'string' then return 0 end
    if into ~= '' and type(redis.pcall('HINCRBY', journal, into, n)) ~= 'number' then return 0 end
    redis.call('HDEL', journal, name)
    return tonumber(n)
end

for i = 2, #ARGV, 3 do
    local name, into = ARGV[i], ARGV[i + 1]
    local was = fold_live(name, into)
    if redis.call('EXISTS', name) == 0 then redis.call('SREM', pending, name) end
    for _, id in ipairs(open) do was = was + fold_claimed(ARGV[1] .. id, name, into) end
    sum = sum + was * ARGV[i + 2]
end
return sum
