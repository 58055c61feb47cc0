#!lua flags=allow-oom
-- Add the rows of event types in the books to the row of the rest. May be repeated.
--
-- KEYS  1 totals
-- ARGV  1 the type of the rest   2 MessagePack: {types, names of the columns}
-- Returns how many fields left.

local types, columns = unpack(cmsgpack.unpack(ARGV[2]))
local left = 0
for _, name in ipairs(types) do
    for _, column in ipairs(columns) do
        local field = column .. ':' .. name
        local n = redis.call('HGET', KEYS[1], field)
        if n and type(redis.pcall('HINCRBY', KEYS[1], column .. ':' .. ARGV[1], n)) == 'number' then
            left = left + redis.call('HDEL', KEYS[1], field)
        end
    end
end
return left
