#!lua flags=no-writes,allow-oom
-- Copy all keys of an installation, as they are at one instant.
--
-- KEYS  none: they are found here, so that none that comes meanwhile is missed
-- ARGV  1 most bytes   2 prefix   3 how many kinds follow   4… kinds of keys, then names of queues
-- Returns for each key: name, end of its lifetime (Unix ms, -1: none), what DUMP says. Instead, where that is more
-- than the bytes allowed: one number, how many there were until then.

local most, prefix, kinds, names = tonumber(ARGV[1]), ARGV[2], {}, {}
local last_kind = 3 + tonumber(ARGV[3])
for i = 4, last_kind do kinds[ARGV[i]] = true end
for i = last_kind + 1, #ARGV do names[ARGV[i]] = true end

local cursor = '0'
repeat
    local page = redis.call('SCAN', cursor, 'MATCH', prefix .. '*', 'COUNT', 1000)
    cursor = page[1]
    for _, name in ipairs(page[2]) do
        local kind = string.match(string.sub(name, #prefix + 1), '^[^:]*')
        if kinds[kind] then names[name] = true end -- SCAN may return a key twice
    end
until cursor == '0'

local copied, bytes = {}, 0
for name in pairs(names) do
    local dumped = redis.call('DUMP', name)
    if dumped then
        bytes = bytes + #dumped
        if bytes > most then return { bytes } end
        copied[#copied + 1] = name
        copied[#copied + 1] = redis.call('PEXPIRETIME', name)
        copied[#copied + 1] = dumped
    end
end
return copied
