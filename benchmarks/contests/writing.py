"""Whether a flush of a million counters, in a process of its own, slows those who send events more
than the work does that Postgres has with it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain

from benchmarks.report.report import Measured, Samples
from benchmarks.rivals import upserts
from benchmarks.stage.flusher import Flusher
from benchmarks.stage.stage import EVENT_TYPE, Stage
from benchmarks.stage.writer import THREADS, WRITES_PER_S, Call, Writer

LONGEST_MS = 20.0
"""A call of `.delay()` may take while counters are flushed."""


def measure(stage: Stage) -> Measured:
    """The 99th percentile of `track_event.delay()` in milliseconds: with no flush, while Postgres
    does by itself what a flush has it do, and during a flush; and the longest of the last.

    Ten threads of a process write at a steady pace; a call that a thread's last one made late
    counts from the moment when it was due.
    """
    rounds, rows = stage.sizes.rounds_of_writers, stage.sizes.flushed
    quiet: list[list[float]] = []
    alone: list[list[float]] = []
    flushing: list[list[float]] = []
    with (
        stage.connect_postgres() as postgres,
        upserts.tables(postgres, EVENT_TYPE, datetime.now(UTC).date(), rows),
    ):
        for at in range(rounds):
            stage.say(f"round {at + 1} of {rounds}: filling")
            stage.clear()
            stage.fill(rows)
            upserts.empty(postgres)
            stage.wait_until_redis_rests()
            with Flusher() as flusher:
                stage.say(f"round {at + 1} of {rounds}: writing, then flushing as well")
                writer = Writer()
                time.sleep(stage.sizes.quiet_s)
                quiet_until_s = time.monotonic()
                upserts.insert_select_per_s(postgres, rows)
                alone_until_s = time.monotonic()
                flusher.begin()
                flushed = flusher.result()
                calls = writer.end()
            quiet.append(_during(calls, 0, quiet_until_s))
            alone.append(_during(calls, quiet_until_s, alone_until_s))
            flushing.append(_during(calls, flushed.began_s, flushed.ended_s))
    samples: Samples = {
        "quiet": [_percentile(ms, 99) for ms in quiet],
        "postgres": [_percentile(ms, 99) for ms in alone],
        "flushing": [_percentile(ms, 99) for ms in flushing],
        "longest": [max(ms) for ms in flushing],
        "longest-allowed": [LONGEST_MS],
    }
    note = f"{WRITES_PER_S} calls a second by {THREADS} threads. " + "; ".join(
        f"{when} half of them take less than {statistics.median(ms):.2f} ms and the longest "
        f"{max(ms):.1f} ms"
        for when, ms in (
            ("With no flush", [*chain(*quiet)]),
            ("while Postgres works alone", [*chain(*alone)]),
            ("during a flush", [*chain(*flushing)]),
        )
    )
    notes = dict.fromkeys(("write-while-flushing", "write-longest"), f"{note}.")
    return Measured(samples, notes)


def _during(calls: Sequence[Call], from_s: float, to_s: float) -> list[float]:
    return [ms for at_s, ms in calls if from_s <= at_s <= to_s]


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]
