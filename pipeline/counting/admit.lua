#!lua flags=allow-oom
-- Admit event types to a day, up to the cap. May be repeated: a type that was admitted stays so.
--
-- KEYS  1 types of the day   2 types that only page keys have sent on it   3, 4 the same of the day before
-- ARGV  1 the cap   2 when the sets of the day expire (Unix s)   3 MessagePack: [[event type, whether a page key sent it], …]
-- Returns the positions, from 1, of those that are refused.
--
-- A type of the day before is admitted past the cap, up to twice the cap: new ones cannot keep out what is there already.
-- Types of page keys fill at most half of either: what their keepers' servers send has the other half for itself.

local cap, refused = tonumber(ARGV[1]), {}
local of_server, of_page = redis.call('SCARD', KEYS[1]), redis.call('SCARD', KEYS[2])
redis.call('SCARD', KEYS[3])
redis.call('SCARD', KEYS[4])

local function holds(first, second, name)
    return redis.call('SISMEMBER', first, name) == 1 or redis.call('SISMEMBER', second, name) == 1
end

for position, asked in ipairs(cmsgpack.unpack(ARGV[3])) do
    local name, by_page = asked[1], asked[2]
    if not holds(KEYS[1], KEYS[2], name) then
        local most = cap
        if of_server + of_page >= cap or (by_page and of_page >= cap / 2) then
            most = holds(KEYS[3], KEYS[4], name) and 2 * cap or 0
        end
        if of_server + of_page >= most or (by_page and of_page >= most / 2) then
            refused[#refused + 1] = position
        elseif by_page then
            of_page = of_page + redis.call('SADD', KEYS[2], name)
        else
            of_server = of_server + redis.call('SADD', KEYS[1], name)
        end
    end
end
redis.call('EXPIREAT', KEYS[1], ARGV[2])
redis.call('EXPIREAT', KEYS[2], ARGV[2])
return refused
