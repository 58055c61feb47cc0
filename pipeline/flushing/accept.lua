#!lua flags=allow-oom
-- Go on from the present state: number claims anew in a new epoch, and the batches that are open with them.
--
-- KEYS  1 batches   2 totals
-- ARGV  1 the new epoch   2 prefix of the journals
-- Returns how many open batches were numbered anew.

redis.call('HLEN', KEYS[2])
local open = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '0')
for number, id in ipairs(open) do
    redis.pcall('HSET', ARGV[2] .. id, '#claim', ARGV[1] .. ':' .. number)
end
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'claims', #open)
return #open
