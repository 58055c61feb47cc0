"""Lanes: of all that flushes, one flush runs at a time, and at most one more is wanted."""
