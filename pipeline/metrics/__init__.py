"""Metrics for Prometheus: the state of a pipeline, once for all of it, and what happens in its
processes, once for each machine.
"""
