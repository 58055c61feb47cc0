"""Contests of measures: what is asked of stored rows."""
