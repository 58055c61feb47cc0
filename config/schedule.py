"""What runs by itself, and how often: the one table of it."""

from __future__ import annotations

from typing import Any

from pipeline import contract

# A request that no worker took for so long is dropped, so that a stop of days leaves a short
# queue. An hour at least: with less, clocks that differ between machines would drop every one.
_SHORTEST_EXPIRY_S = 3_600.0


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
    """The table in Celery's form; the queues come from the routes."""
    return {
        task: {
            "task": task,
            "schedule": interval_s,
            "options": {"expires": max(_SHORTEST_EXPIRY_S, 2 * interval_s)},
        }
        for task, interval_s in intervals_s(flush_interval_s).items()
    }
