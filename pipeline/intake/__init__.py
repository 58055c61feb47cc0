"""Messages between the events queue and their count: fetched, given back, postponed."""
