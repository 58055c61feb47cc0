#!lua flags=allow-oom
-- Consume a batch of messages and count its events: both, or nothing.
--
-- KEYS  1 unacked hash   2 unacked index   3 pending_flush   4 totals   5 dead   6… live buckets, from number 0
-- ARGV  1 the batch, a MessagePack map:
--           tags, ids             delivery tags of the messages to consume; [[prefix of sets, digests to find and remember, prefix
--                                 of sets beside which alone they are remembered], …]: of events, of tasks, of `ids_of_before`
--           counters, books       {counter key: increment}, {field of totals: increment}
--           buckets               {number of a bucket: [[field, …], [its increment, …]]}, no field twice
--           values                [{values_key, expire_at_s, counters = [[value, bucket, field, increment], …], rest_bucket,
--                                   rest_field, rest = what is added to the counter of the rest anyway,
--                                   sums of the last bucket = {value: [[field, that of the rest, increment], …]}}, …]
--           log                   [{stream, sizes, partition, name, events, gap = {gap counter: increment}}, …], entries of
--                                 the event log; where the stream is full, the gap is counted in place of the entry
--           dead, forgotten       [{kind, reason}, …], dead letters; version of the forgotten users that the worker has left out
--           before, half_window_s: prefix of the sets of the version before, and half the deduplication window;
--           prefix, values_cap, counter_ttl_s (0: none), log_max_entries, log_max_bytes: the settings of these names
--       2… bodies of the dead letters, then blobs of the log's entries: any bytes
-- Returns {1, pending counters, events that found no room in the log}, or, with nothing changed, {0, [positions, from 1, of
--         tags that are gone], [… of ids seen], …}; {2} when other users are forgotten than it knew; {3} when `before` is there.

local unacked, unacked_index, pending, totals, dead = unpack(KEYS)
local batch = cmsgpack.unpack(ARGV[1])
local now_s = tonumber(redis.call('TIME')[1])
local CHUNK = 3000 -- Lua's unpack() is bounded by its stack
local EXACT = 1e15 -- below it Lua's numbers are whole and written with all their digits
local PAD = string.rep('.', 100) -- see PAD of keys.py

local function in_chunks(command, key, members)
    local replies = {}
    for first = 1, #members, CHUNK do
        replies[#replies + 1] = redis.call(command, key, unpack(members, first, math.min(first + CHUNK - 1, #members)))
    end
    return replies
end

-- The one being filled and two sets of half a window: an id is remembered for one to one and a half windows. And the next
-- one: a clock that was put back, or that of a replica which took over, may have been there already.
local function window_sets(prefix)
    local half = math.floor(now_s / batch.half_window_s)
    return { prefix .. half, prefix .. (half - 1), prefix .. (half - 2), prefix .. (half + 1) }
end

-- The positions of the members that a set has, or has not.
local function positions(set, members, wanted)
    local found = {}
    for chunk, flags in ipairs(in_chunks('SMISMEMBER', set, members)) do
        for i, flag in ipairs(flags) do if flag == wanted then found[#found + 1] = (chunk - 1) * CHUNK + i end end
    end
    return found
end

-- 1. Look, and change nothing. Reading every structure also refuses one of the wrong type before the first write.
if (redis.call('HGET', totals, 'forgotten_version') or '0') ~= batch.forgotten then return { 2 } end
if batch.before and redis.call('EXISTS', unpack(window_sets(batch.before))) > 0 then return { 3 } end
local found = { 0, {} }
for at, tag in ipairs(batch.tags) do if redis.call('HEXISTS', unacked, tag) == 0 then table.insert(found[2], at) end end
for i, ids in ipairs(batch.ids) do
    found[i + 2] = {}
    for _, set in ipairs(window_sets(ids[1])) do
        for _, position in ipairs(positions(set, ids[2], 1)) do table.insert(found[i + 2], position) end
    end
end
for i = 2, #found do if #found[i] > 0 then return found end end
redis.call('ZCARD', unacked_index)
local were_pending = redis.call('SCARD', pending)
for i = 6, #KEYS do were_pending = were_pending + math.max(0, redis.call('HLEN', KEYS[i]) - 1) end
redis.call('XLEN', dead)

local function blob(i) return ARGV[1 + #batch.dead + i] end
local fits = {} -- per entry of the event log, whether its stream has room
for i, entry in ipairs(batch.log) do
    local bytes = tonumber(redis.call('HGET', entry.sizes, entry.partition .. ':bytes')) or 0
    fits[i] = redis.call('XLEN', entry.stream) < batch.log_max_entries and bytes + #blob(i) <= batch.log_max_bytes
end

local function put(bucket, ...)
    batch.buckets[bucket] = batch.buckets[bucket] or { {}, {} }
    for i, list in ipairs(batch.buckets[bucket]) do list[#list + 1] = select(i, ...) end
end
local new_values = {} -- per group, the values that take one of the places left under the cap; others are added to the rest
for at, group in ipairs(batch.values) do
    local names, fresh, rest, sums = {}, {}, group.rest, {}
    local function sum(value, at) for _, one in ipairs(group.sums[value] or {}) do sums[one[at]] = (sums[one[at]] or 0) + one[3] end end
    for i, value in ipairs(group.counters) do names[i] = value[1] end
    local room = batch.values_cap - redis.call('SCARD', group.values_key)
    for _, position in ipairs(positions(group.values_key, names, 0)) do
        local value = group.counters[position]
        if #fresh < room then fresh[#fresh + 1] = value[1] else rest, group.counters[position] = rest + value[4], false end
    end
    for _, value in ipairs(group.counters) do if value then put(unpack(value, 2)) end end
    for i, value in ipairs(group.counters) do sum(names[i], value and 1 or 2) end
    if rest > 0 then put(group.rest_bucket, group.rest_field, rest) end
    sum('__other__', 2) -- sent as a value
    for field, increment in pairs(sums) do put(#KEYS - 6, field, increment) end
    new_values[at] = fresh
end

-- 2. Change everything. From here nothing may raise: what can is called with pcall.
local created, new_fields = {}, 0
-- The answer of INCRBY or HINCRBY; where the counter is none of ours, or past 2^63, the increment is kept with the reason.
local function keep(count, name, increment)
    if type(count) == 'number' then return count == increment end
    redis.call('XADD', dead, '*', 'kind', 'counter', 'counter', name, 'count', increment, 'reason', count.err, 'at_s', now_s)
end
local function add(key, by) if keep(redis.pcall('INCRBY', key, by), key, by) then created[#created + 1] = key end end
-- Add to the fields of a bucket by two calls for some thousand of them, which takes half as long as one call for each.
local function add_to_bucket(key, fields, increments)
    local fields_before = new_fields
    for first = 1, #fields, CHUNK do
        local last = math.min(first + CHUNK - 1, #fields)
        local held = redis.call('HMGET', key, 'pad', unpack(fields, first, last))
        local sums = held[1] and {} or { 'pad', PAD }
        for i = first, last do
            local field, count, sum = fields[i], held[i - first + 2], increments[i]
            if count then sum = string.match(count, '^%-?%d+$') and count + sum or EXACT else new_fields = new_fields + 1 end
            if math.abs(sum) < EXACT then
                sums[#sums + 1], sums[#sums + 2] = field, sum
            else -- kinds of counters: see name_of of keys.py
                local kind = ({ [2] = 'user:', [3] = 'dim:' })[select(2, string.gsub(field, ':', ''))] or ''
                keep(redis.pcall('HINCRBY', key, field, increments[i]), batch.prefix .. kind .. field, increments[i])
            end
        end
        if #sums > 0 then redis.call('HSET', key, unpack(sums)) end
    end
    if new_fields > fields_before and batch.counter_ttl_s > 0 then redis.call('EXPIRE', key, batch.counter_ttl_s) end
end

for command, key in pairs({ HDEL = unacked, ZREM = unacked_index }) do in_chunks(command, key, batch.tags) end
for _, ids in ipairs(batch.ids) do
    local set, beside = window_sets(ids[1])[1], ids[3] and window_sets(ids[3])[1]
    if #ids[2] > 0 and (not beside or redis.call('EXISTS', beside) == 1) then
        in_chunks('SADD', set, ids[2])
        redis.call('EXPIRE', set, 3 * batch.half_window_s, 'NX')
    end
end
for key, increment in pairs(batch.counters) do add(key, increment) end
for bucket, found in pairs(batch.buckets) do add_to_bucket(KEYS[6 + bucket], unpack(found)) end
for at, group in ipairs(batch.values) do
    in_chunks('SADD', group.values_key, new_values[at])
    if #new_values[at] > 0 then redis.call('EXPIREAT', group.values_key, group.expire_at_s) end
end
local unlogged = 0
for i, entry in ipairs(batch.log) do
    if fits[i] and type(redis.pcall('XADD', entry.stream, '*', 'name', entry.name, 'events', entry.events,
        'format', '1', 'blob', blob(i))) == 'string' then -- a stream whose ids are used up takes no more
        redis.pcall('HINCRBY', entry.sizes, entry.partition .. ':bytes', #blob(i))
        redis.pcall('HINCRBY', entry.sizes, entry.partition .. ':events', entry.events)
    else
        unlogged = unlogged + entry.events
        for key, increment in pairs(entry.gap) do add(key, increment) end
    end
end
if unlogged > 0 then redis.pcall('HINCRBY', totals, 'unlogged', unlogged) end
in_chunks('SADD', pending, created)
if were_pending == 0 and #created + new_fields > 0 then redis.call('HSET', totals, 'pending_since_s', now_s) end
for _, key in ipairs(batch.counter_ttl_s > 0 and created or {}) do redis.call('EXPIRE', key, batch.counter_ttl_s) end
for i, one in ipairs(batch.dead) do
    redis.call('XADD', dead, '*', 'kind', one.kind, 'body', ARGV[1 + i], 'reason', one.reason, 'at_s', now_s)
end
for field, increment in pairs(batch.books) do redis.pcall('HINCRBY', totals, field, increment) end
return { 1, were_pending + #created + new_fields, unlogged }
