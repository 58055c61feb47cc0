#!lua flags=allow-oom
-- Look at a batch that a flush has left. May be repeated.
--
-- KEYS  1 journal of the batch   2… its buckets, from number 0
-- Returns {[fields of each bucket], [field of the journal, value, …]}; {[], []} when it is there no longer.

if redis.call('EXISTS', KEYS[1]) == 0 then return { {}, {} } end
-- A flush of the version before may be claiming it still, part by part: it adds nothing to it after this.
redis.call('HSET', KEYS[1], '#taken_over', 1)
local sizes = {}
for i = 2, #KEYS do sizes[i - 1] = math.max(0, redis.call('HLEN', KEYS[i]) - 1) end -- without the pad
return { sizes, redis.call('HGETALL', KEYS[1]) }
