"""`Tracker` and `AsyncTracker`: events are gathered in memory, and a thread sends them."""
