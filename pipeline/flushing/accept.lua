#!lua flags=allow-oom
-- Go on from the present state: number claims anew in a new epoch, and the batches that are open with them.
--
-- KEYS  1 batches   2 totals
-- ARGV  1 the new epoch   2 prefix of the journals
-- Returns how many open batches were numbered anew.

redis.call('HLEN', KEYS[2])
local claims = 0
for _, range in ipairs({ { '-inf', '0' }, { '1e15', '+inf' } }) do -- see OPEN of claims.py
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], unpack(range))) do
        claims = claims + 1
        redis.pcall('HSET', ARGV[2] .. id, '#claim', ARGV[1] .. ':' .. claims)
    end
end
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'claims', claims)
return claims
