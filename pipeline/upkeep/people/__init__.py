"""Upkeep of users: sealing closed days, erasing and pruning without a change of any total."""
