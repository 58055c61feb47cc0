"""Flushing counters into Postgres: by beat, by hand (`flush_counters.delay()`), or when many are
pending."""

from __future__ import annotations

from pipeline.contract import FLUSH_COUNTERS
from pipeline.errors import RedisWentBack, ServerUnavailable
from tasks.app import app, services


@app.task(name=FLUSH_COUNTERS, shared=False, throws=(ServerUnavailable, RedisWentBack))
def flush_counters() -> int:
    """Store every pending counter; returns how many. Repeats and parallel runs are exact."""
    return services().flush()
