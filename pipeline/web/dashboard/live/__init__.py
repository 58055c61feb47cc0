"""What happens now: the rate, the last quarter hours, what waits, and events as they come."""
