"""One event type: over time, by whom, with which values and sums."""
