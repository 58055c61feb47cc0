#!lua flags=allow-oom
-- Acknowledge and delete entries that are archived. May be repeated: what is gone is not subtracted again.
--
-- KEYS  1 stream   2 hash of sizes
-- ARGV  1 consumer group   2 partition   3… entry id, bytes of its blob, events in it, …
-- Returns how many were deleted.

redis.call('XLEN', KEYS[1])
redis.call('HLEN', KEYS[2])
local deleted, bytes, events = 0, 0, 0
for i = 3, #ARGV, 3 do
    redis.pcall('XACK', KEYS[1], ARGV[1], ARGV[i])
    if redis.call('XDEL', KEYS[1], ARGV[i]) == 1 then
        deleted = deleted + 1
        bytes, events = bytes + ARGV[i + 1], events + ARGV[i + 2]
    end
end
if redis.call('XLEN', KEYS[1]) == 0 then -- whatever went wrong with them before, the sizes are right again
    redis.call('HSET', KEYS[2], ARGV[2] .. ':bytes', 0, ARGV[2] .. ':events', 0)
elseif deleted > 0 then
    redis.pcall('HINCRBY', KEYS[2], ARGV[2] .. ':bytes', -bytes)
    redis.pcall('HINCRBY', KEYS[2], ARGV[2] .. ':events', -events)
end
return deleted
