#!lua flags=allow-oom
-- Make counters pending again whose names are not. May be repeated.
--
-- KEYS  1 pending_flush   2 totals
-- ARGV  names of counters
-- Returns how many were made pending.

local repaired = 0
for _, name in ipairs(ARGV) do
    if redis.call('TYPE', name).ok == 'string' and redis.call('SADD', KEYS[1], name) == 1 then
        repaired = repaired + 1
    end
end
if repaired > 0 then redis.pcall('HINCRBY', KEYS[2], 'repaired_counters', repaired) end
return repaired
