#!lua
-- Put a message into a queue once, however often its producer has to try. Without allow-oom: at maxmemory the producer
-- is refused, with nothing changed, while consumers drain the queue.
--
-- KEYS  1 queue   2 last number of this producer   3 totals
-- ARGV  1 number of the publish   2 message   3 events in it   4 seconds the producer is remembered
-- Returns 1 when the message was taken, 0 when it had been taken before.

local last = tonumber(redis.call('GET', KEYS[2]) or 0)
if tonumber(ARGV[1]) <= last then return 0 end
redis.call('HLEN', KEYS[3]) -- refuses what is no hash before the first write, as LPUSH does what is no list
redis.call('LPUSH', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[4])
redis.pcall('HINCRBY', KEYS[3], 'published', ARGV[3])
redis.pcall('HINCRBY', KEYS[3], 'published_messages', 1)
return 1
