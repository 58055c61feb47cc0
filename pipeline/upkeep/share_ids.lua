#!lua flags=allow-oom
-- While an event worker of the version before lives, have the set of ids that it fills, now and in the next half of a window:
-- others enter what they count there only where it is. May be repeated.
--
-- KEYS  1 workers
-- ARGV  1 what the names of event workers begin with   2 of those that know ids by source and type   3 prefix of the sets
--       4 half the deduplication window, in seconds

local half = math.floor(tonumber(redis.call('TIME')[1]) / ARGV[4])
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    if string.sub(name, 1, #ARGV[1]) == ARGV[1] and string.sub(name, 1, #ARGV[2]) ~= ARGV[2] then
        for _, set in ipairs({ ARGV[3] .. half, ARGV[3] .. (half + 1) }) do
            if redis.call('EXISTS', set) == 0 then
                redis.call('SADD', set, '')
                redis.call('EXPIRE', set, 4 * ARGV[4])
            end
        end
        return 1
    end
end
return 0
