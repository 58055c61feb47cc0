"""Event analytics on Celery and Redis: exact counts, live and in Postgres.

An application calls `track_event.delay("page_view", user_id="u1")`. Workers turn events into Redis
counters, a beat schedule flushes the counters into Postgres, and `stats` reads counts that are
exact at any moment, flushed or not. Every accepted event is counted exactly once. This package is
the domain: plain Python, Redis and SQL; `tasks` is its Celery side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.event.model import Event
    from pipeline.producer.app import configure
    from pipeline.producer.celery_tasks import track_event, track_events
    from pipeline.producer.tracking.async_tracker import AsyncTracker
    from pipeline.producer.tracking.tracker import Tracker

__all__ = ["AsyncTracker", "Event", "Tracker", "configure", "track_event", "track_events"]


def __getattr__(name: str) -> Any:
    # Loaded on use: `analytics --help` and the reading side need no Celery.
    if name == "Event":
        from pipeline.event.model import Event

        return Event
    if name == "Tracker":
        from pipeline.producer.tracking.tracker import Tracker

        return Tracker
    if name == "AsyncTracker":
        from pipeline.producer.tracking.async_tracker import AsyncTracker

        return AsyncTracker
    if name == "configure":
        from pipeline.producer.app import configure

        return configure
    if name in __all__:
        from pipeline.producer import celery_tasks

        return getattr(celery_tasks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
