#!lua
-- Do nothing. A full Redis refuses it, as it refuses whatever may take memory.
--
-- KEYS  none   ARGV  none
-- Returns 1.

return 1
