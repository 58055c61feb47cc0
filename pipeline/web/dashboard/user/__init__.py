"""One user: days, event types, latest events, and forgetting them."""
