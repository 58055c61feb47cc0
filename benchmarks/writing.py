"""Whether a flush of a million counters, in a process of its own, slows those who send events."""

from __future__ import annotations

import statistics
import time
from itertools import chain

from benchmarks.flusher import Flusher
from benchmarks.report import Measured
from benchmarks.stage import Stage
from benchmarks.writer import THREADS, WRITES_PER_S, Writer


def measure(stage: Stage) -> Measured:
    """The 99th percentile of `track_event.delay()` in milliseconds, with no flush and during one.

    Ten threads of a process write at a steady pace; a call that a thread's last one made late
    counts from the moment when it was due.
    """
    rounds = stage.sizes.rounds_of_writers
    by_round: dict[str, list[list[float]]] = {"quiet": [], "flushing": []}
    for at in range(rounds):
        stage.say(f"round {at + 1} of {rounds}: filling")
        stage.clear()
        stage.fill(stage.sizes.flushed)
        with Flusher() as flusher:
            stage.say(f"round {at + 1} of {rounds}: writing, then flushing as well")
            writer = Writer()
            time.sleep(stage.sizes.quiet_s)
            flusher.begin()
            flushed = flusher.result()
            calls = writer.end()
        by_round["quiet"].append([ms for at_s, ms in calls if at_s < flushed.began_s])
        by_round["flushing"].append(
            [ms for at_s, ms in calls if flushed.began_s <= at_s <= flushed.ended_s]
        )
    samples = {name: [_percentile(ms, 99) for ms in found] for name, found in by_round.items()}
    quiet, flushing = (list(chain(*found)) for found in by_round.values())
    note = (
        f"{WRITES_PER_S} calls a second by {THREADS} threads. With no flush half of them take less "
        f"than {statistics.median(quiet):.2f} ms and the longest {max(quiet):.1f} ms, during one "
        f"{statistics.median(flushing):.2f} ms and {max(flushing):.1f} ms."
    )
    return Measured(samples, {"write-while-flushing": note})


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]
