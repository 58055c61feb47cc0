"""From the call to the counter: senders, workers, and the script that applies batches."""

from __future__ import annotations

from benchmarks.contests import applying, batches, workers
from benchmarks.report.report import Comparison, Sense
from benchmarks.rows.contest import Contest
from benchmarks.stage import caller

_DELAY = "track_event.delay(), time in the caller"
_ONE_WORKER = "single-event tasks counted by one worker process"
_BATCHES = "events from Tracker.track() to counted, one worker process"
_INCR = "redis-benchmark's pipelined INCR, one for each of an event's three counters"

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
                sense=Sense.AT_MOST,
                target=0.75,
            ),
            Comparison(
                name="delay-bare",
                what=_DELAY,
                ours="delay",
                rival="bare",
                rival_is="a bare LPUSH of the same bytes",
                unit="µs",
                sense=Sense.AT_MOST,
                target=1.35,
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
                what="events applied in batches of 500 messages of one event",
                ours="single",
                rival="benchmark",
                rival_is=_INCR,
                unit="events/s",
                sense=Sense.MORE_A_SECOND,
                target=0.6,
            ),
            Comparison(
                name="apply-batches",
                what="events applied in batches of 10 messages of 500 events",
                ours="several",
                rival="benchmark",
                rival_is=_INCR,
                unit="events/s",
                sense=Sense.MORE_A_SECOND,
                target=0.6,
            ),
        ),
    ),
)
