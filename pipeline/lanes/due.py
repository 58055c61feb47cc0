"""When a run is due: so long after the last one that was done began, whichever process asks.

When each task was last done is in Redis, with the counts and events that it is about. A Redis that
is lost or put back to an older state has it done once more, which is exact (`tasks/jobs.py`). What
was never done is due when beat first asks; what comes once a day, a day after that, which is noted
too.
"""

from __future__ import annotations

from dataclasses import dataclass

_DAY_S = 86_400.0
_LATE_S = 60.0
_RETRY_S = 60.0
_RETRIES = 100
"""In one interval, where it is long."""


@dataclass(frozen=True)
class Due:
    """A run is due `after_s` seconds after the last one that was done began. One that failed, was
    killed or goes on is not asked for again for `retry_s`. What was never done is due `first_s`
    after this was first asked."""

    after_s: float
    retry_s: float
    first_s: float

    @classmethod
    def on_time(cls, interval_s: float, tick_s: float) -> Due:
        """For beat, which asks at every tick: that nearest to the interval's end finds it due."""
        after_s = interval_s - tick_s / 2
        return cls._make(after_s, interval_s, after_s if interval_s >= _DAY_S else 0)

    @classmethod
    def late(cls, interval_s: float) -> Due:
        """For a flush worker, which asks where beat should have: soon enough that nothing counts
        as falling behind (`pipeline.lanes.status`)."""
        after_s = interval_s + min(interval_s / 2, _LATE_S)
        return cls._make(after_s, interval_s, after_s)

    @classmethod
    def _make(cls, after_s: float, interval_s: float, first_s: float) -> Due:
        return cls(after_s, min(after_s, max(_RETRY_S, interval_s / _RETRIES)), first_s)
