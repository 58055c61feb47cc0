"""Signing in and out, and which requests a browser may send for whom."""
