"""Reading: counts that are exact at any moment, flushed or not, and the books."""
