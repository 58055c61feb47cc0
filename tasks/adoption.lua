#!lua flags=allow-oom
-- Move tasks of ours out of a queue that is not ours alone into their own: Celery's default queue, where a stock client
-- sends what it has no queue for, and the queue that all installations shared before its name carried the prefix.
-- Other applications' tasks are left as they are, in their order.
--
-- KEYS  1 the queue
-- ARGV  1 how many messages to pass over, from the consuming end   2 how many to look at
--       3 what the keys of this installation's producers begin with: only messages of those are moved; '' moves all
--       4… name of a task, the queue it belongs in, …
-- Returns {how many were moved, how many tasks of ours were left, how many were looked at}.

if redis.call('EXISTS', KEYS[1]) == 0 then return {0, 0, 0} end
local skipped, most, producers = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local queues, moved, left, taken = {}, 0, 0, '@@taken@@'
for i = 4, #ARGV, 2 do queues[ARGV[i]] = ARGV[i + 1] end
for _, queue in pairs(queues) do redis.call('LLEN', queue) end

-- Its producer entered its number under our prefix when the message was published.
local function is_ours(message)
    if producers == '' then return true end
    local producer = string.match(message, '"delivery_tag"%s*:%s*"analytics/(%x+)/%d+"')
    return producer and redis.call('EXISTS', producers .. producer) == 1
end

local found = redis.call('LRANGE', KEYS[1], -(skipped + most), -(skipped + 1))
for i = #found, 1, -1 do
    if string.find(found[i], '"analytics.', 1, true) then
        local decoded, message = pcall(cjson.decode, found[i])
        local headers = decoded and type(message) == 'table' and message.headers
        local queue = type(headers) == 'table' and queues[headers.task]
        if queue and is_ours(found[i]) then
            redis.call('LPUSH', queue, found[i])
            redis.call('LSET', KEYS[1], i - #found - 1 - skipped, taken)
            moved = moved + 1
        elseif queue then
            left = left + 1
        end
    end
end
if moved > 0 then redis.call('LREM', KEYS[1], -moved, taken) end
return {moved, left, #found}
