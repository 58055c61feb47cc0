#!lua flags=allow-oom
-- Enter an installation, unless there is one whose keys could be its keys.
--
-- KEYS  1 totals   2 set of the prefixes inside its own   3… the same two of each installation that its prefix is inside of
-- ARGV  1 prefix
-- Returns nil, or the prefix inside, or the totals of the one around it. A repeat changes nothing.

local inside = redis.call('SRANDMEMBER', KEYS[2])
if inside then return inside end
for i = 3, #KEYS, 2 do
    if redis.call('EXISTS', KEYS[i]) == 1 then return KEYS[i] end
end
redis.call('HINCRBY', KEYS[1], 'claims', 0)
for i = 4, #KEYS, 2 do redis.call('SADD', KEYS[i], ARGV[1]) end
return nil
