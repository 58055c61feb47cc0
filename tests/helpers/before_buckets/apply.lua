#!lua flags=allow-oom
-- Consume a batch of messages and count its events: both, or nothing.
--
-- KEYS  1 unacked hash   2 unacked index   3 pending_flush   4 totals   5 dead
-- ARGV  1 the batch, a MessagePack map:
--           tags, ids             delivery tags of the messages to consume; [[prefix of sets, digests to find and remember, prefix
--                                 of sets beside which alone they are remembered], …]: of events, of tasks, of `ids_of_before`
--           counters, books       {counter key: increment}, {field of totals: increment}
--           values                [{values_key, other_key, expire_at_s, counters = [[value, counter key, increment], …]}, …]
--           log                   [{stream, sizes, partition, name, events, gap = {gap counter: increment}}, …], entries of
--                                 the event log; where the stream is full, the gap is counted in place of the entry
--           dead                  [{kind, reason}, …], dead letters
--           forgotten             version of the forgotten users that the worker has left out
--           before, half_window_s: prefix of the sets of the version before, and half the deduplication window;
--           values_cap, counter_ttl_s (0: none), log_max_entries, log_max_bytes: the settings of these names
--       2… bodies of the dead letters, then blobs of the log's entries: any bytes
-- Returns {1, pending counters, events that found no room in the log}, or, with nothing changed, {0, [positions, from 1, of
--         tags that are gone], [… of ids seen], …}; {2} when other users are forgotten than it knew; {3} when `before` is there.

local unacked, unacked_index, pending, totals, dead = unpack(KEYS)
local batch = cmsgpack.unpack(ARGV[1])
local now_s = tonumber(redis.call('TIME')[1])
local CHUNK = 4000 -- Lua's unpack() is bounded by its stack

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
        for i, flag in ipairs(flags) do
            if flag == wanted then found[#found + 1] = (chunk - 1) * CHUNK + i end
        end
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
redis.call('XLEN', dead)

local function blob(i) return ARGV[1 + #batch.dead + i] end
local fits = {} -- per entry of the event log, whether its stream has room
for i, entry in ipairs(batch.log) do
    local bytes = tonumber(redis.call('HGET', entry.sizes, entry.partition .. ':bytes')) or 0
    fits[i] = redis.call('XLEN', entry.stream) < batch.log_max_entries and bytes + #blob(i) <= batch.log_max_bytes
end

local new_values = {} -- per group, the values that take one of the places left under the cap
for at, group in ipairs(batch.values) do
    local names, fresh = {}, {}
    for i, value in ipairs(group.counters) do names[i] = value[1] end
    local room = batch.values_cap - redis.call('SCARD', group.values_key)
    for _, position in ipairs(positions(group.values_key, names, 0)) do
        if #fresh < room then
            fresh[#fresh + 1] = names[position]
        else
            group.counters[position][2] = group.other_key
        end
    end
    new_values[at] = fresh
end

-- 2. Change everything. From here nothing may raise: what can is called with pcall.
local created = {}
local function add(key, increment)
    local count = redis.pcall('INCRBY', key, increment)
    if type(count) == 'table' then -- no counter of ours, or past 2^63: keep the increment, with the reason
        redis.call('XADD', dead, '*', 'kind', 'counter', 'counter', key, 'count', increment, 'reason', count.err, 'at_s', now_s)
    elseif count == increment then
        created[#created + 1] = key
    end
end

in_chunks('HDEL', unacked, batch.tags)
in_chunks('ZREM', unacked_index, batch.tags)
for _, ids in ipairs(batch.ids) do
    local set, beside = window_sets(ids[1])[1], ids[3] and window_sets(ids[3])[1]
    if #ids[2] > 0 and (not beside or redis.call('EXISTS', beside) == 1) then
        in_chunks('SADD', set, ids[2])
        redis.call('EXPIRE', set, 3 * batch.half_window_s, 'NX')
    end
end
for key, increment in pairs(batch.counters) do add(key, increment) end
for at, group in ipairs(batch.values) do
    if #new_values[at] > 0 then
        in_chunks('SADD', group.values_key, new_values[at])
        redis.call('EXPIREAT', group.values_key, group.expire_at_s)
    end
    for _, value in ipairs(group.counters) do add(value[2], value[3]) end
end
local unlogged = 0
for i, entry in ipairs(batch.log) do
    -- A stream whose ids are used up takes no more.
    if fits[i] and type(redis.pcall('XADD', entry.stream, '*', 'name', entry.name, 'events', entry.events,
        'format', '1', 'blob', blob(i))) == 'string' then
        redis.pcall('HINCRBY', entry.sizes, entry.partition .. ':bytes', #blob(i))
        redis.pcall('HINCRBY', entry.sizes, entry.partition .. ':events', entry.events)
    else
        unlogged = unlogged + entry.events
        for key, increment in pairs(entry.gap) do add(key, increment) end
    end
end
if unlogged > 0 then redis.pcall('HINCRBY', totals, 'unlogged', unlogged) end
in_chunks('SADD', pending, created)
if were_pending == 0 and #created > 0 then redis.call('HSET', totals, 'pending_since_s', now_s) end
for _, key in ipairs(batch.counter_ttl_s > 0 and created or {}) do redis.call('EXPIRE', key, batch.counter_ttl_s) end
for i, letter in ipairs(batch.dead) do
    redis.call('XADD', dead, '*', 'kind', letter.kind, 'body', ARGV[1 + i], 'reason', letter.reason, 'at_s', now_s)
end
for field, increment in pairs(batch.books) do redis.pcall('HINCRBY', totals, field, increment) end
return { 1, redis.call('SCARD', pending), unlogged }
