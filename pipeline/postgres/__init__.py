"""Postgres: engines, tables, partitions, and the migrations that make them."""
