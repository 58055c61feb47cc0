-- What this user may not do, without doing it.
--
-- KEYS  none: the names stand for all of ours
-- ARGV  for each command: how many parts it has, then the parts
-- Returns the positions, from 1 on, of the commands that the server would refuse.

local refused, position, i = {}, 0, 1
while i <= #ARGV do
    local parts = tonumber(ARGV[i])
    position = position + 1
    if not redis.acl_check_cmd(unpack(ARGV, i + 1, i + parts)) then
        refused[#refused + 1] = position
    end
    i = i + parts + 1
end
return refused
