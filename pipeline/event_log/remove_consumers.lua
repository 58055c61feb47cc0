#!lua flags=allow-oom
-- Remove consumers of a group that hold nothing and have not been heard of for a while, or the one that is named.
-- A script: a consumer that read something in between would lose it.
--
-- KEYS  1 stream
-- ARGV  1 consumer group   2 idle at least (ms)   3 name of one consumer, or '' for all
-- Returns how many were removed.

local removed = 0
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local consumer = {}
    for i = 1, #info, 2 do consumer[info[i]] = info[i + 1] end
    local meant = ARGV[3] == '' or consumer.name == ARGV[3]
    if meant and consumer.pending == 0 and consumer.idle >= tonumber(ARGV[2]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
        removed = removed + 1
    end
end
return removed
