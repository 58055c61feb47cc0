#!lua flags=allow-oom
-- Look at a batch that a flush has left. May be repeated.
--
-- KEYS  1 journal of the batch   2… its buckets, from number 0
-- Returns {0, claim ("epoch:number"), [fields of each bucket], [field of the journal, value, …]}; the claim's number is 0 when
--         it is there no longer.

local claim, sizes = redis.call('HGET', KEYS[1], '#claim') or '0:0', {}
for i = 2, #KEYS do sizes[i - 1] = math.max(0, redis.call('HLEN', KEYS[i]) - 1) end -- without the pad
-- A flush of the version before may be claiming it still, part by part: it adds nothing to it after this.
if claim ~= '0:0' then redis.call('HSET', KEYS[1], '#taken_over', 1) end
return { 0, claim, sizes, redis.call('HGETALL', KEYS[1]) }
