#!lua
-- Put a message into a queue once, however often its producer tries. Without allow-oom: at maxmemory the producer is
-- refused, with nothing changed, while consumers drain the queue. What cannot be is undone: to check first costs more.
-- KEYS  1 queue   2 last number of this producer   3 totals
-- ARGV  1 seconds the producer is remembered   2 number of the publish   3 events in it   4 message
-- Returns 1 when the message was taken, 0 when it had been taken before.

local last = redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[1], 'GET')
local pushed = (tonumber(last) or 0) < tonumber(ARGV[2]) and redis.pcall('LPUSH', KEYS[1], ARGV[4])
local booked = tonumber(pushed) and redis.pcall('HINCRBY', KEYS[3], 'published', ARGV[3])
if tonumber(booked) or booked and not booked.err:find('WRONGTYPE', 1, true) then
    redis.pcall('HINCRBY', KEYS[3], 'published_messages', 1)
    return 1
end
if booked then redis.call('LPOP', KEYS[1]) end
if last or type(redis.pcall('DEL', KEYS[2])) == 'table' then
    redis.call('SET', KEYS[2], last or 0, 'EX', ARGV[1])
end
return booked or pushed or 0
