"""The stats API: every number over HTTP, for holders of a read token."""
