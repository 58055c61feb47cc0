"""Conditions on an event's properties: a small language, read into a tree, and put to Postgres."""
