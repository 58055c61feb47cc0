-- Find the sessions of visitors, begin those that are not there, and have each go on for its idle time from now.
--
-- KEYS  for each visitor: 1 session, "{began}:{entry}"   2 sessions of the site that began of late
-- ARGV  1 now (ms)   2 idle time (ms)   3 sessions of a site that may begin within it   then for each visitor: the id of
--       its first page view here, "" for none, "-" for none and nothing that begins a session
-- Returns for each visitor its session; "" where it has none. A repeat finds what the first call has begun.

local now, idle, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local sessions = {}
for i = 1, #KEYS / 2 do
    local session, site, view = KEYS[2 * i - 1], KEYS[2 * i], ARGV[3 + i]
    local found = redis.call('GET', session)
    local is_view = view ~= '' and view ~= '-'
    if found and is_view and string.sub(found, -1) == ':' then
        found = found .. view
        redis.call('SET', session, found, 'PX', idle)
    elseif found then
        redis.call('PEXPIRE', session, idle)
    elseif view ~= '-' then
        local began = redis.call('INCR', site)
        if began == 1 then redis.call('PEXPIRE', site, idle) end
        if began <= most then
            found = now .. ':' .. (is_view and view or '')
            redis.call('SET', session, found, 'PX', idle)
        end
    end
    sessions[i] = found or ''
end
return sessions
