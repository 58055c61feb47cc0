#!lua flags=allow-oom
-- Mark a batch as stored in Postgres, and let go of it. May be repeated; a batch that is not there is left alone.
--
-- KEYS  1 batches   2 journal of the batch   3… its buckets
-- ARGV  1 batch id   2 seconds the batch stays listed
-- Returns 1 when it was open, else 0.

local OPEN = 1e15 -- see OPEN of claims.py
local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 1)
if score > 0 and score < OPEN then return 0 end
local now = redis.call('TIME')
local now_ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
redis.call('UNLINK', unpack(KEYS, 2)) -- in the background
redis.call('ZADD', KEYS[1], now_ms, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], 1, now_ms - tonumber(ARGV[2]) * 1000)
return 1
