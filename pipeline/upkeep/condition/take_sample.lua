#!lua
-- Note how much there is of everything, unless that was done for this stretch of time. May be repeated.
--
-- KEYS  1 history   2 totals   3 pending_flush   4 events:sizes   5 unacked
--       6… live buckets, then lists of the events queue
-- ARGV  1 a stretch (ms)   2 how many samples are kept   3 seconds for which   4 how many live buckets
-- Returns 1 where a sample was taken. A sample has a number for each field; without lists of a queue, which then is
-- RabbitMQ's, nothing in `queued` and `unacknowledged`.

local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local id = string.format('%.0f-1', now_ms - now_ms % ARGV[1])
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
-- The clock may have been set back: then nothing is noted until it has caught up.
if newest and tonumber(string.match(newest[1], '^%d+')) >= now_ms - now_ms % ARGV[1] then return 0 end

local books = redis.call('HMGET', KEYS[2], 'published', 'counted')
local pending, events, queued, unacked, first_list = redis.call('SCARD', KEYS[3]), 0, '', '', 6 + ARGV[4]
for i = 6, first_list - 1 do pending = pending + math.max(0, redis.call('HLEN', KEYS[i]) - 1) end -- without the pad
local sizes = redis.call('HGETALL', KEYS[4])
for i = 1, #sizes, 2 do
    if string.match(sizes[i], ':events$') then events = events + math.max(0, tonumber(sizes[i + 1]) or 0) end
end
if #KEYS >= first_list then
    queued, unacked = 0, redis.call('HLEN', KEYS[5])
    for i = first_list, #KEYS do queued = queued + redis.call('LLEN', KEYS[i]) end
end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], id, 'published', books[1] or 0, 'counted', books[2] or 0,
    'queued', queued, 'unacknowledged', unacked, 'pending', pending, 'logged', events)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
