"""What runs by itself, and how often: the one table of it.

Beat's tick only asks: whether a run is due is decided in Redis, from when the last one was done
(`pipeline.lanes`). So nothing depends on how long beat, or which of two beats, has been running.
"""

from __future__ import annotations

from typing import Any

from pipeline import contract

TICK_S = 5.0


def intervals_s(flush_interval_s: float) -> dict[str, float]:
    """Task name -> seconds after which it is due again, from when its last good run began."""
    return {
        contract.FLUSH_COUNTERS: flush_interval_s,
        contract.ARCHIVE_EVENTS: 60.0,
        contract.MOVE_DEAD_LETTERS: 60.0,
        contract.REPAIR_COUNTERS: 600.0,
        contract.MAINTAIN: 3_600.0,
        contract.AUDIT: 86_400.0,
        contract.RECOUNT: 45.0,
        contract.PRUNE: 86_400.0,
    }


def tick_s(interval_s: float) -> float:
    """Seconds between two ticks of a task: how late beat may find that it is due."""
    return min(TICK_S, interval_s)


def beat_schedule(flush_interval_s: float) -> dict[str, dict[str, Any]]:
    """The ticks in Celery's form; the queues come from the routes. Requests do not expire: however
    long workers are away, one of each waits for them (`pipeline.lanes`)."""
    return {
        task: {"task": task, "schedule": tick_s(interval_s)}
        for task, interval_s in intervals_s(flush_interval_s).items()
    }
