#!lua flags=allow-oom
-- Put a message into a queue of kombu's on a full server: a control command's reply, or the request of a flush.
--
-- KEYS  1 the list to push to   2… all lists of the queue, one a priority
-- ARGV  1 message   2 lifetime of the queue (ms), 0 for none   3 how many may wait in the list at most
-- Returns how many wait in the list now; raises OOM when it has as many as it may.

if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[3]) then
    return redis.error_reply('OOM Redis is full, and ' .. ARGV[3] .. ' messages wait in this queue already')
end
local waiting = redis.call('LPUSH', KEYS[1], ARGV[1])
if ARGV[2] ~= '0' then
    for i = 2, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[2]) end
end
return waiting
