#!lua flags=allow-oom
-- Let go of users who were forgotten long ago. May be repeated.
--
-- KEYS  1 forgotten   2 totals
-- ARGV  1 how long an entry is kept (ms)
-- Returns how many entries left.

local now = redis.call('TIME')
local now_us = tonumber(now[1]) * 1000000 + tonumber(now[2])
local before_ms = now_us / 1000 - tonumber(ARGV[1])
local version = tonumber(redis.call('HGET', KEYS[2], 'forgotten_version')) or 0
local found, left = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #found, 2 do
    if tonumber(found[i + 1]) < before_ms then left = left + redis.call('HDEL', KEYS[1], found[i]) end
end
if left > 0 then
    redis.call('HSET', KEYS[2], 'forgotten_version', string.format('%.0f', math.max(now_us, version + 1)))
end
return left
