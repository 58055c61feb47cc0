#!lua flags=allow-oom
-- Move our tasks out of Celery's default queue into their own: a stock client that names no queue sends them there.
-- Other applications' tasks are left as they are.
--
-- KEYS  1 default queue
-- ARGV  1 how many messages to look at, from the consuming end   2… name of a task, the queue it belongs in, …
-- Returns how many were moved.

if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local queues, moved = {}, 0
for i = 2, #ARGV, 2 do queues[ARGV[i]] = ARGV[i + 1] end
for _, queue in pairs(queues) do redis.call('LLEN', queue) end
local found = redis.call('LRANGE', KEYS[1], -ARGV[1], -1)
for i = #found, 1, -1 do
    if string.find(found[i], '"analytics.', 1, true) then
        local decoded, message = pcall(cjson.decode, found[i])
        local headers = decoded and type(message) == 'table' and message.headers
        local queue = type(headers) == 'table' and queues[headers.task]
        if queue then
            redis.call('LREM', KEYS[1], -1, found[i])
            redis.call('LPUSH', queue, found[i])
            moved = moved + 1
        end
    end
end
return moved
