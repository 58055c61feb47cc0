"""Events of all types at once: how many by time, and how many of each type."""
