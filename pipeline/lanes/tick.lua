#!lua flags=allow-oom
-- Note that beat has asked for something.
--
-- KEYS  1 requests

local clock = redis.call('TIME')
redis.call('HSET', KEYS[1], 'beat:ticked_ms', clock[1] * 1000 + math.floor(clock[2] / 1000))
return 1
