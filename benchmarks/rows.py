"""Every row of the table: what is compared with what, how, and the ratio to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.contests import (
    applying,
    archiving,
    batches,
    flushing,
    raw_log,
    reading,
    sustained,
    web,
    workers,
    writing,
)
from benchmarks.report.report import Comparison, Measured, Row, Sense, row
from benchmarks.stage import caller
from benchmarks.stage.stage import Stage


@dataclass(frozen=True)
class Contest:
    """Rows that come from the same measurements. `with_always` are those that are measured once
    more with `appendfsync always`, to be reported without a target."""

    name: str
    measure: Callable[[Stage], Measured]
    comparisons: tuple[Comparison, ...]
    with_always: tuple[str, ...] = ()

    def rows(self, stage: Stage) -> list[Row]:
        """Hold the contest."""
        measured = self.measure(stage)
        stage.clear()
        return [row(comparison, measured) for comparison in self.comparisons]

    def again_with_always(self) -> Contest:
        """The same contest with those rows only, renamed and without targets."""
        return replace(
            self,
            comparisons=tuple(
                replace(one, name=f"{one.name}-always", target=None)
                for one in self.comparisons
                if one.name in self.with_always
            ),
        )


_DELAY = "track_event.delay(), time in the caller"
_ONE_WORKER = "single-event tasks counted by one worker process"
_BATCHES = "events from Tracker.track() to counted, one worker process"

CONTESTS = (
    Contest(
        "caller",
        caller.measure,
        (
            Comparison(
                name="delay-celery",
                what=_DELAY,
                ours="delay",
                rival="celery",
                rival_is="Celery's own .delay() of an ordinary task",
                unit="µs",
                sense=Sense.LESS_TIME,
                target=6,
            ),
            Comparison(
                name="delay-dramatiq",
                what=_DELAY,
                ours="delay",
                rival="dramatiq",
                rival_is="dramatiq's send()",
                unit="µs",
                sense=Sense.LESS_TIME,
                target=2,
            ),
            Comparison(
                name="tracker-celery",
                what="Tracker.track(), time in the caller",
                ours="tracker",
                rival="celery",
                rival_is="Celery's own .delay() of an ordinary task",
                unit="µs",
                sense=Sense.LESS_TIME,
                target=150,
            ),
        ),
        with_always=("delay-celery", "delay-dramatiq"),
    ),
    Contest(
        "workers",
        workers.measure,
        (
            Comparison(
                name="worker-celery",
                what=_ONE_WORKER,
                ours="one",
                rival="celery",
                rival_is="an ordinary Celery worker process, one pipeline per event",
                unit="events/s",
                sense=Sense.MORE_A_SECOND,
                target=40,
            ),
            Comparison(
                name="worker-dramatiq",
                what=_ONE_WORKER,
                ours="one",
                rival="dramatiq",
                rival_is="a dramatiq worker process of 16 threads, one pipeline per event",
                unit="events/s",
                sense=Sense.MORE_A_SECOND,
                target=15,
            ),
            Comparison(
                name="two-workers",
                what="single-event tasks counted by two worker processes",
                ours="two",
                rival="one",
                rival_is="one worker process of ours",
                unit="events/s",
                sense=Sense.MORE_A_SECOND,
                target=1.4,
            ),
        ),
        with_always=("worker-celery", "worker-dramatiq", "two-workers"),
    ),
    Contest(
        "batches",
        batches.measure,
        (
            Comparison(
                name="batches-celery",
                what=_BATCHES,
                ours="tracker",
                rival="celery",
                rival_is="the ordinary Celery task from .delay() to counted, one worker process",
                unit="events/s",
                sense=Sense.MORE_A_SECOND,
                target=150,
            ),
            Comparison(
                name="batches-asyncio",
                what=_BATCHES,
                ours="tracker",
                rival="asyncio",
                rival_is="an asyncio service, one pipeline per event, 32 at a time",
                unit="events/s",
                sense=Sense.MORE_A_SECOND,
                target=50,
            ),
        ),
    ),
    Contest(
        "apply",
        applying.measure,
        (
            Comparison(
                name="apply-single",
                what="Redis commands made by applying batches of 500 messages of one event",
                ours="single",
                rival="benchmark",
                rival_is="redis-benchmark's pipelined INCR",
                unit="commands/s",
                sense=Sense.MORE_A_SECOND,
                target=0.6,
            ),
            Comparison(
                name="apply-batches",
                what="Redis commands made by applying batches of 10 messages of 500 events",
                ours="several",
                rival="benchmark",
                rival_is="redis-benchmark's pipelined INCR",
                unit="commands/s",
                sense=Sense.MORE_A_SECOND,
                target=0.6,
            ),
        ),
    ),
    Contest(
        "flush",
        flushing.measure,
        (
            Comparison(
                name="flush-executemany",
                what="user counters flushed",
                ours="flush",
                rival="executemany",
                rival_is="upserts by executemany, a hundred to a transaction",
                unit="rows/s",
                sense=Sense.MORE_A_SECOND,
                target=3.5,
            ),
            Comparison(
                name="flush-postgres",
                what="user counters flushed",
                ours="flush",
                rival="insert-select",
                rival_is="Postgres's own INSERT … SELECT … ON CONFLICT from a loaded table",
                unit="rows/s",
                sense=Sense.MORE_A_SECOND,
                target=0.85,
            ),
        ),
    ),
    Contest(
        "raw-log",
        raw_log.measure,
        (
            Comparison(
                name="raw-logging-batches",
                what="events read and applied by a worker, raw events logged",
                ours="logged-batches",
                rival="unlogged-batches",
                rival_is="the same with ANALYTICS_EVENT_LOG=none",
                unit="events/s",
                sense=Sense.MORE_A_SECOND,
                target=0.85,
            ),
            Comparison(
                name="raw-logging-single",
                what="single-event messages read and applied by a worker, raw events logged",
                ours="logged-single",
                rival="unlogged-single",
                rival_is="the same with ANALYTICS_EVENT_LOG=none",
                unit="events/s",
                sense=Sense.MORE_A_SECOND,
                target=0.85,
            ),
        ),
    ),
    Contest(
        "archive",
        archiving.measure,
        (
            Comparison(
                name="archive-copy",
                what="raw events archived",
                ours="archive",
                rival="copy",
                rival_is="a bare COPY of the same rows into the same table",
                unit="events/s",
                sense=Sense.MORE_A_SECOND,
                target=0.5,
            ),
        ),
    ),
    Contest(
        "read",
        reading.measure,
        (
            Comparison(
                name="read-while-flushing",
                what="exact live daily_count while a flush runs",
                ours="daily_count",
                rival="select",
                rival_is="a plain SELECT of one row over one connection",
                unit="µs",
                sense=Sense.AT_MOST,
                target=3,
            ),
        ),
    ),
    Contest(
        "write",
        writing.measure,
        (
            Comparison(
                name="write-while-flushing",
                what="p99 of track_event.delay() while all counters are flushed",
                ours="flushing",
                rival="quiet",
                rival_is="its p99 with no flush",
                unit="ms",
                sense=Sense.AT_MOST,
                target=2,
            ),
        ),
    ),
    Contest(
        "web",
        web.measure,
        (
            Comparison(
                name="collector-bare",
                what="single events taken by POST /v1/track, 64 connections",
                ours="single",
                rival="bare",
                rival_is=(
                    "a bare Starlette route that parses the body and answers, same server and load"
                ),
                unit="requests/s",
                sense=Sense.MORE_A_SECOND,
                target=0.6,
            ),
            Comparison(
                name="collector-batches",
                what=(
                    "events from POST /v1/batch, 100 in each, to counted, one web and one worker "
                    "process"
                ),
                ours="batches",
                rival="wanted",
                rival_is="the rate to reach",
                unit="events/s",
                sense=Sense.MORE_A_SECOND,
                target=1,
            ),
            Comparison(
                name="api-count",
                what="p99 of GET /api/stats/count",
                ours="api",
                rival="stats",
                rival_is="the p99 of the same Stats call and of a bare route, added",
                unit="ms",
                sense=Sense.AT_MOST,
                target=2,
            ),
        ),
    ),
    Contest(
        "sustained",
        sustained.measure,
        (
            Comparison(
                name="sustained-rate",
                what="events sent for minutes, counted, flushed and archived meanwhile",
                ours="sent",
                rival="wanted",
                rival_is="the rate to reach",
                unit="events/s",
                sense=Sense.MORE_A_SECOND,
                target=1,
            ),
            *(
                Comparison(
                    name=f"sustained-{stage}",
                    what=f"furthest that {stage} fell behind meanwhile",
                    ours=stage,
                    rival="limit",
                    rival_is="two minutes",
                    unit="s",
                    sense=Sense.AT_MOST,
                    target=1,
                )
                for stage in ("counting", "flush", "archive")
            ),
        ),
    ),
)
GROWTH = "growth"
"""The name under which growth is chosen: it has points, not rows."""


def chosen(names: list[str]) -> list[Contest]:
    """The contests to hold: all, or those named or with a row that is named."""
    return [
        contest
        for contest in CONTESTS
        if not names or {contest.name, *(one.name for one in contest.comparisons)} & {*names}
    ]
