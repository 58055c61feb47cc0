"""Whether a flush of a million counters, in a process of its own, slows those who send events."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain

from benchmarks.report.report import Measured
from benchmarks.rivals import upserts
from benchmarks.stage.flusher import Flusher
from benchmarks.stage.stage import EVENT_TYPE, Stage
from benchmarks.stage.writer import THREADS, WRITES_PER_S, Call, Writer


def measure(stage: Stage) -> Measured:
    """The 99th percentile of `track_event.delay()` in milliseconds: with no flush, while Postgres
    does by itself what a flush has it do, and during a flush.

    Ten threads of a process write at a steady pace; a call that a thread's last one made late
    counts from the moment when it was due.
    """
    rounds, rows = stage.sizes.rounds_of_writers, stage.sizes.flushed
    by_round: dict[str, list[list[float]]] = {"quiet": [], "postgres": [], "flushing": []}
    with stage.connect_postgres() as postgres:
        upserts.make_tables(postgres, EVENT_TYPE, datetime.now(UTC).date(), rows)
        for at in range(rounds):
            stage.say(f"round {at + 1} of {rounds}: filling")
            stage.clear()
            stage.fill(rows)
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
            by_round["quiet"].append(_during(calls, 0, quiet_until_s))
            by_round["postgres"].append(_during(calls, quiet_until_s, alone_until_s))
            by_round["flushing"].append(_during(calls, flushed.began_s, flushed.ended_s))
        upserts.drop_tables(postgres)
    samples = {name: [_percentile(ms, 99) for ms in found] for name, found in by_round.items()}
    quiet, alone, flushing = (list(chain(*found)) for found in by_round.values())
    note = (
        f"{WRITES_PER_S} calls a second by {THREADS} threads. With no flush half of them take "
        f"less than {statistics.median(quiet):.2f} ms and the longest {max(quiet):.1f} ms, during "
        f"one {statistics.median(flushing):.2f} ms and {max(flushing):.1f} ms. While Postgres "
        "stores as many rows from a table of its own, without Redis and us, the p99 is "
        f"{statistics.median(samples['postgres']):.1f} ms and half take less than "
        f"{statistics.median(alone):.2f} ms: so much is the two cores and the disk."
    )
    return Measured(samples, {"write-while-flushing": note})


def _during(calls: Sequence[Call], from_s: float, to_s: float) -> list[float]:
    return [ms for at_s, ms in calls if from_s <= at_s <= to_s]


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]
