#!lua flags=allow-oom
-- Note which event types are removed, or no longer are. From then on no worker counts one under its own name: the version
-- in the totals becomes another one, as when a user is erased, and the apply script refuses what was made with an older.
-- May be repeated.
--
-- KEYS  1 removed types   2 totals   3… sets of the types admitted to days
-- ARGV  1 seconds for which a removal is kept   2 how many are, at most   3 MessagePack: {types to remove, types to restore}
-- Returns how many were noted that were not, or left.

local removed, totals = KEYS[1], KEYS[2]
local now = redis.call('TIME')
local now_us = tonumber(now[1]) * 1000000 + tonumber(now[2])
local version = tonumber(redis.call('HGET', totals, 'forgotten_version')) or 0
local types, restored = unpack(cmsgpack.unpack(ARGV[3]))
local kept_s, most = tonumber(ARGV[1]), tonumber(ARGV[2])

local changed = redis.call('ZREMRANGEBYSCORE', removed, '-inf', tonumber(now[1]) - kept_s)
for _, name in ipairs(restored) do changed = changed + redis.call('ZREM', removed, name) end
for _, name in ipairs(types) do
    changed = changed + redis.call('ZADD', removed, now[1], name)
    for i = 3, #KEYS do redis.call('SREM', KEYS[i], name) end
end
redis.call('ZREMRANGEBYRANK', removed, 0, -most - 1)
redis.call('EXPIRE', removed, kept_s)
if changed > 0 then
    redis.call('HSET', totals, 'forgotten_version', string.format('%.0f', math.max(now_us, version + 1)))
end
return changed
