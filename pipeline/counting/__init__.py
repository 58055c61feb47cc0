"""Counting: from the messages of a batch to counters in Redis, in one script."""
