"""Alarms: Prometheus' rules, and `analytics watch`, which raises them without Prometheus."""
