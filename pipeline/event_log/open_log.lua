#!lua flags=allow-oom
-- The streams that exist, each with its consumer group. A script, because a full server refuses XGROUP CREATE.
-- A stream that was deleted and made again has no group, nor one that came from an older state: it is read from its start.
--
-- KEYS  streams
-- ARGV  1 consumer group
-- Returns [[position of the stream, entries in it], …], positions from 1.

local found = {}
for position, stream in ipairs(KEYS) do
    if redis.call('EXISTS', stream) == 1 then
        redis.call('XLEN', stream)
        redis.pcall('XGROUP', 'CREATE', stream, ARGV[1], '0') -- refused where it is there already
        found[#found + 1] = { position, redis.call('XLEN', stream) }
    end
end
return found
