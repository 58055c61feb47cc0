"""The first page: how many events, by whom, and of which types."""
