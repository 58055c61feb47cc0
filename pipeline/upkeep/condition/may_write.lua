#!lua
-- Do nothing. Redis refuses this call while it refuses a publish, whose script has the same flags: none.
-- Returns 1.

return 1
