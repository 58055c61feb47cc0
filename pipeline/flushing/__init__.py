"""Flushing: counters from Redis to Postgres, exactly once."""
