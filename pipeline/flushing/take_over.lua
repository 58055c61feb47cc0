#!lua flags=allow-oom
-- Look at a batch that a flush has left. May be repeated.
--
-- KEYS  1 journal of the batch   2… its buckets, from number 0
-- Returns {0, claim ("epoch:number"), [fields of each bucket], [counter, count, …]}; the claim's number is 0 when it is there
--         no longer.

local held, claim, sizes, named = redis.call('HGETALL', KEYS[1]), '0:0', {}, {}
for i = 2, #KEYS do sizes[i - 1] = math.max(0, redis.call('HLEN', KEYS[i]) - 1) end -- without the pad
for i = 1, #held, 2 do
    if held[i] == '#claim' then
        claim = held[i + 1]
    elseif string.sub(held[i], 1, 1) ~= '#' then
        named[#named + 1], named[#named + 2] = held[i], held[i + 1]
    end
end
-- A flush of the version before may be claiming it still, part by part: it adds nothing to it after this.
if #held > 0 then redis.call('HSET', KEYS[1], '#taken_over', 1) end
return { 0, claim, sizes, named }
