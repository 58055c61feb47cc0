"""The rivals: what a competent user would write with each of these tools for the same job.

Each event counts its type per day and per hour and its user per day, and leaves the names of the
counters for a flush: nine commands, sent as one redis pipeline.
"""
