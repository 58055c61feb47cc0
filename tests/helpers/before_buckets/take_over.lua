#!lua flags=allow-oom
-- Close a batch that a flush has left, or is still claiming: nothing is added to it after this. May be repeated.
--
-- KEYS  1 journal of the batch
-- Returns what the journal holds, {field, value, …}; empty when it is there no longer.

if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
redis.call('HSET', KEYS[1], '#taken_over', 1)
return redis.call('HGETALL', KEYS[1])
