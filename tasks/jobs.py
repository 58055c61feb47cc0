"""Every task, by the name under which it is sent; `config/schedule.py` says which beat sends, and
how often.

A repeat of a task, and two runs at once, are exact: what counts, flushes or archives is idempotent.
All but the events have lanes, so that no more runs are made than serve (`tasks/lane_task.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

from celery import Task

from pipeline.contract import (
    ARCHIVE_EVENTS,
    AUDIT,
    FLUSH_COUNTERS,
    MAINTAIN,
    MAKE_REPORT,
    MOVE_DEAD_LETTERS,
    PRUNE,
    RECOUNT,
    REPAIR_COUNTERS,
    TRACK_EVENT,
    TRACK_EVENTS,
)
from pipeline.errors import (
    BatchesLeft,
    InvalidConfiguration,
    RedisWentBack,
    ServerUnavailable,
    TooMuchWaiting,
)
from pipeline.producer.reports import ask_for_report
from tasks.app import app, services
from tasks.consumer.applying import count_task
from tasks.consumer.arguments import read_event, read_events
from tasks.lane_task import LaneTask
from tasks.worker.audit_report import report_audit
from tasks.worker.event_request import EventRequest
from tasks.worker.recount_report import report_recount

UNFIT_SERVERS = (ServerUnavailable, InvalidConfiguration)
"""What a server's standstill or an upgrade under way gives: a line in the log, and the next run is
a new try."""
lane_task = partial(app.task, base=LaneTask, shared=False, throws=UNFIT_SERVERS)

# -- events: what comes this way, and not through the batch consumer, is unusual --


@app.task(name=TRACK_EVENT, Request=EventRequest, bind=True, typing=False, shared=False)
def track_event(self: Task, *args: Any, **kwargs: Any) -> None:
    """Count one event; see `pipeline.track_event` for the arguments."""
    count_task(read_event(args, kwargs, self.request.id, datetime.now(UTC)), self.request)


@app.task(name=TRACK_EVENTS, Request=EventRequest, bind=True, typing=False, shared=False)
def track_events(self: Task, *args: Any, **kwargs: Any) -> None:
    """Count a list of events; see `pipeline.track_events`."""
    count_task(read_events(args, kwargs, self.request.id, datetime.now(UTC)), self.request)


# -- from Redis to Postgres: by beat, by hand, or when many counters are pending --


@lane_task(name=FLUSH_COUNTERS, throws=(*UNFIT_SERVERS, RedisWentBack, BatchesLeft))
def flush_counters() -> int:
    """Store every pending counter; returns how many. Fails when a batch is left behind."""
    return services().flush()


@lane_task(name=ARCHIVE_EVENTS)
def archive_events() -> int:
    """Archive what waits in the event log; returns how many events."""
    return services().archive_events()


# -- maintenance --


@lane_task(name=MOVE_DEAD_LETTERS)
def move_dead_letters() -> int:
    """Move dead letters from Redis to Postgres; returns how many."""
    return services().move_dead_letters()


@lane_task(name=REPAIR_COUNTERS)
def repair_counters() -> int:
    """Make counters pending again whose names are not; returns how many, normally 0."""
    return services().repair_counters()


@lane_task(name=MAINTAIN)
def maintain() -> None:
    """Make partitions ahead of need; prune old ledger entries."""
    services().maintain(datetime.now(UTC))


@lane_task(name=AUDIT, throws=(*UNFIT_SERVERS, TooMuchWaiting))
def audit() -> int:
    """Compare archive and counters of the last days; returns how many hours and days differ."""
    return report_audit(services(), datetime.now(UTC).date())


@lane_task(name=RECOUNT)
def recount() -> int:
    """Compare the counters of the newest days, and some older ones, with their events; returns how
    many differ."""
    return report_recount(services(), datetime.now(UTC))


@lane_task(name=PRUNE)
def prune() -> int:
    """Drop partitions that are older than the settings say; returns how many."""
    return len(services().prune(datetime.now(UTC).date()).dropped)


# -- reports: asked for by the web server, each by its own message --


@app.task(name=MAKE_REPORT, shared=False, throws=UNFIT_SERVERS)
def make_report(_report_id: str) -> None:
    """Make the report whose turn it is, of those that wait, and ask for the next: a flush may come
    between. Does nothing while another process makes one, which will see to the others."""
    waiting = services().make_next_report()
    if waiting is not None:
        ask_for_report(waiting, services().keys.prefix)
