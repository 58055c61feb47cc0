#!lua flags=allow-oom
-- Mark a batch as stored in Postgres, and let go of it. May be repeated; a batch that is not there is left alone.
--
-- KEYS  1 journal of the batch   2 batches
-- ARGV  1 batch id   2 seconds the batch stays listed
-- Returns 1 when it was open, else 0.

local journal, batches = unpack(KEYS)
local score = redis.call('ZSCORE', batches, ARGV[1])
if not score or tonumber(score) > 0 then return 0 end
local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
redis.call('UNLINK', journal)
redis.call('ZADD', batches, now_ms, ARGV[1])
redis.call('ZREMRANGEBYSCORE', batches, 1, now_ms - tonumber(ARGV[2]) * 1000)
return 1
