"""Formats of lines that `analytics import` reads: pure, tested without a server."""
