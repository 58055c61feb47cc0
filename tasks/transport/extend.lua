#!lua flags=allow-oom
-- Note that unacknowledged messages were fetched just now, so that they are not given back for another visibility timeout.
--
-- KEYS  1 unacked hash   2 unacked index
-- ARGV  delivery tags
-- Returns how many of them are still unacknowledged. May be repeated.

local clock = redis.call('TIME')
local now = clock[1] .. '.' .. string.format('%06d', clock[2])
local extended = 0
for _, tag in ipairs(ARGV) do
  if redis.call('HEXISTS', KEYS[1], tag) == 1 then
    redis.call('ZADD', KEYS[2], now, tag)
    extended = extended + 1
  end
end
return extended
