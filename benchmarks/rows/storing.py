"""From the counter to the row: flushes, the archive, and who reads and writes meanwhile."""

from __future__ import annotations

from benchmarks.contests import archiving, day, flushing, raw_log, reading, writing
from benchmarks.report.report import Comparison, Sense
from benchmarks.rows.contest import Contest

_INSERT_SELECT = (
    "Postgres's own INSERT … SELECT … ORDER BY … ON CONFLICT of the same rows from a loaded table"
)
_AGAIN = f"{_INSERT_SELECT}, updating"

CONTESTS = (
    Contest(
        "flush",
        flushing.measure,
        (
            Comparison(
                name="flush-executemany",
                what="user counters flushed, new rows",
                ours="flush",
                rival="executemany",
                rival_is="upserts by executemany, a hundred to a transaction",
                unit="rows/s",
                sense=Sense.MORE_A_SECOND,
                target=3.5,
            ),
            Comparison(
                name="flush-postgres",
                what="user counters flushed, new rows",
                ours="flush",
                rival="insert-select",
                rival_is=_INSERT_SELECT,
                unit="rows/s",
                sense=Sense.MORE_A_SECOND,
                target=0.75,
            ),
            Comparison(
                name="flush-again",
                what="user counters flushed a second time, updating the same rows",
                ours="again",
                rival="insert-select-again",
                rival_is=_AGAIN,
                unit="rows/s",
                sense=Sense.MORE_A_SECOND,
                target=0.75,
            ),
            Comparison(
                name="flush-redis",
                what="CPU time of Redis for a user counter flushed",
                ours="redis",
                rival="redis-before",
                rival_is="a flush while each counter was a key of its own, measured once",
                unit="µs",
                sense=Sense.AT_MOST,
                target=0.1,
            ),
            Comparison(
                name="live-memory",
                what="memory of Redis for a live user counter",
                ours="bytes",
                rival="bytes-at-most",
                rival_is="the most that it may take",
                unit="bytes",
                sense=Sense.AT_MOST,
                target=1,
            ),
        ),
    ),
    Contest(
        "flush-day",
        day.measure,
        (
            Comparison(
                name="flush-tenth",
                what="user counters flushed a tenth time in a day",
                ours="tenth",
                rival="insert-select-tenth",
                rival_is=f"{_AGAIN} a tenth time",
                unit="rows/s",
                sense=Sense.MORE_A_SECOND,
                target=0.75,
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
                name="sum-batches",
                what="events read and applied by a worker, one property summed, sizes included",
                ours="summed-batches",
                rival="logged-batches",
                rival_is="the same with ANALYTICS_SUM={}",
                unit="events/s",
                sense=Sense.MORE_A_SECOND,
                target=0.75,
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
                ours="daily",
                rival="quiet-daily",
                rival_is="the same read of the same counters without one",
                unit="µs",
                sense=Sense.AT_MOST,
                target=1.5,
            ),
            Comparison(
                name="read-user-while-flushing",
                what="exact live user_count while a flush runs",
                ours="user",
                rival="quiet-user",
                rival_is="the same read of the same counters without one",
                unit="µs",
                sense=Sense.AT_MOST,
                target=1.5,
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
                rival="postgres",
                rival_is="its p99 while Postgres alone stores as many rows from a table",
                unit="ms",
                sense=Sense.AT_MOST,
                target=2,
            ),
            Comparison(
                name="write-longest",
                what="longest track_event.delay() while all counters are flushed",
                ours="longest",
                rival="longest-allowed",
                rival_is="the longest that it may take",
                unit="ms",
                sense=Sense.AT_MOST,
                target=1,
            ),
        ),
    ),
)
