#!lua flags=no-writes
-- The moment at which a read begins.
--
-- KEYS  1 batches   2 totals
-- Returns {this server's clock (ms), epoch and number of the newest claim, [ids of the open batches]}.

local now = redis.call('TIME')
local claim = redis.call('HMGET', KEYS[2], 'epoch', 'claims')
return {
    tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000),
    tonumber(claim[1]) or 0, tonumber(claim[2]) or 0,
    redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '0'),
}
