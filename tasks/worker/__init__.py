"""What every worker process does besides its tasks: heartbeats, and a stop in time."""
