#!lua flags=allow-oom
-- Give a request of a run its number, unless one was sent a moment ago that no run has served yet.
--
-- KEYS  1 requests
-- ARGV  1 task   2 for how long another request is not sent again (ms)
-- Returns the number, or 0 where none is to be sent. A number that is not used does no harm.

local requests, task = KEYS[1], ARGV[1]
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local asked = tonumber(redis.call('HGET', requests, task .. ':asked')) or 0
local began = tonumber(redis.call('HGET', requests, task .. ':began')) or 0
local asked_ms = tonumber(redis.call('HGET', requests, task .. ':asked_ms')) or 0
if asked > began and now_ms - asked_ms < tonumber(ARGV[2]) then return 0 end
redis.call('HSET', requests, task .. ':asked', asked + 1, task .. ':asked_ms', now_ms)
return asked + 1
