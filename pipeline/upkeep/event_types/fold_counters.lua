#!lua flags=allow-oom
-- Add counters to others, live and in the journals of open batches. May be repeated: what is gone adds nothing.
--
-- Called while no flush is under way, so that what a journal holds is in no flush's memory.
--
-- KEYS  1 pending_flush   2 batches   3… live buckets, from number 0
-- ARGV  1 prefix of the journals
--       2 MessagePack: [[a counter, the one that it is added to ('' to drop it), 1 where its count is part of the answer,
--                        else 0, and for one in a bucket: its number, the field, and the field that it is added to], …]
-- Returns the sum of these counts.

local pending, batches = unpack(KEYS)
redis.call('SCARD', pending)
for i = 3, #KEYS do redis.call('HLEN', KEYS[i]) end
local open, sum = {}, 0
for _, range in ipairs({ { '-inf', '0' }, { '1e15', '+inf' } }) do -- see OPEN of claims.py
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', batches, unpack(range))) do open[#open + 1] = ARGV[1] .. id end
end

local function fold_key(name, into)
    local n, ttl_ms = redis.pcall('GET', name), redis.call('PTTL', name)
    if type(n) ~= 'string' then return 0 end -- none, or no counter of ours
    if into ~= '' then
        if type(redis.pcall('INCRBY', into, n)) ~= 'number' then return 0 end
        if redis.call('SADD', pending, into) == 1 and ttl_ms > 0 then redis.call('PEXPIRE', into, ttl_ms) end
    end
    redis.call('DEL', name)
    return tonumber(n)
end

local function fold_field(hash, field, into)
    local n = redis.pcall('HGET', hash, field)
    if type(n) ~= 'string' then return 0 end
    if into ~= '' and type(redis.pcall('HINCRBY', hash, into, n)) ~= 'number' then return 0 end
    redis.call('HDEL', hash, field)
    return tonumber(n)
end

for _, one in ipairs(cmsgpack.unpack(ARGV[2])) do
    local name, into, is_summed, bucket, field, into_field = unpack(one)
    local was = fold_key(name, into)
    if redis.call('EXISTS', name) == 0 then redis.call('SREM', pending, name) end
    if bucket then was = was + fold_field(KEYS[3 + bucket], field, into_field) end
    for _, journal in ipairs(open) do
        was = was + fold_field(journal, name, into)
        if bucket then was = was + fold_field(journal .. ':' .. bucket, field, into_field) end
    end
    sum = sum + was * is_summed
end
return sum
