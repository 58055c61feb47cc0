"""Copies of what Redis and Postgres hold of an installation, both of one moment, and the way back.

In reading order: `backup` (a directory, and what is in it), `redis_copy`, `postgres_copy`.
"""
