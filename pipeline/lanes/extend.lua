#!lua flags=allow-oom
-- Say that a run is still under way.
--
-- KEYS  1 lane
-- ARGV  1 token of the run   2 lifetime of the lane (ms)
-- Returns 1, or 0 where the lane is another run's by now.

if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
