"""What a worker process does besides its tasks: it stops in time, and says what an audit found."""
