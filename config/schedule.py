"""What runs by itself, and how often: the one table of it."""

from __future__ import annotations

from typing import Any

from pipeline import contract


def intervals_s(flush_interval_s: float) -> dict[str, float]:
    """Task name -> seconds between two runs."""
    return {
        contract.FLUSH_COUNTERS: flush_interval_s,
        contract.ARCHIVE_EVENTS: 60.0,
        contract.MOVE_DEAD_LETTERS: 60.0,
        contract.REPAIR_COUNTERS: 600.0,
        contract.MAINTAIN: 3_600.0,
        # Once a day would do, but beat counts from its own start, and may be started daily.
        contract.AUDIT: 6 * 3_600.0,
        contract.PRUNE: 6 * 3_600.0,
    }


def beat_schedule(flush_interval_s: float) -> dict[str, dict[str, Any]]:
    """The table in Celery's form; the queues come from the routes. Requests do not expire: however
    long workers are away, one of each waits for them (`pipeline.lanes`)."""
    return {
        task: {"task": task, "schedule": interval_s}
        for task, interval_s in intervals_s(flush_interval_s).items()
    }
