"""The flushes of a day: the same users' counters stored again and again, beside Postgres's own
statement doing so to a table of its own. What the tenth takes depends on the room that the nine
before have left in pages and indexes.

`python -m benchmarks.contests.day --counters 1000000` shows every flush of a day, with as many
counters as the contest about the first two has.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from benchmarks.contests.flushing import flush_pending
from benchmarks.report.report import Measured
from benchmarks.rivals import upserts
from benchmarks.stage.processes import Cores
from benchmarks.stage.stage import EVENT_TYPE, FULL, Stage, open_stage

FIRST_MEASURED = 10
FLUSHES = 12


def measure(stage: Stage) -> Measured:
    """Rows a second of the tenth flush and the two after it, and of the statement."""
    cores = Cores({"the flushing process": os.getpid(), "Redis": stage.redis_pid}, "Postgres")
    flushes = list(_flushes(stage, cores))
    ours, theirs = (list(side) for side in zip(*flushes, strict=True))
    begin = FIRST_MEASURED - 1
    note = (
        f"{stage.sizes.flushed_daily:,} counters a flush. The second of the day stores "
        f"{ours[1]:,.0f} rows/s beside {theirs[1]:,.0f}, the fifth {ours[4]:,.0f} beside "
        f"{theirs[4]:,.0f}. Before each, VACUUM does on either side what autovacuum does between "
        f"two flushes. CPU used in all, of {os.cpu_count()} cores: {cores}."
    )
    samples = {"tenth": ours[begin:], "insert-select-tenth": theirs[begin:]}
    return Measured(samples, {"flush-tenth": note})


def _flushes(stage: Stage, cores: Cores) -> Iterator[tuple[float, float]]:
    """Each flush of the day: our rows a second and those of the statement."""
    rows, today = stage.sizes.flushed_daily, datetime.now(UTC).date()
    stage.clear()
    with stage.connect_postgres() as postgres, upserts.tables(postgres, EVENT_TYPE, today, rows):
        for number in range(1, FLUSHES + 1):
            stage.say(f"flush {number} of {FLUSHES}")
            stage.fill(rows)
            upserts.prepare(postgres, upserts.OURS)
            ours, _ = flush_pending(stage, cores)
            upserts.prepare(postgres, upserts.TABLE)
            yield ours, upserts.insert_select_per_s(postgres, rows)


def main() -> None:
    """Run what the options say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contests.day", description=__doc__)
    parser.add_argument("--counters", type=int, default=FULL.flushed)
    sizes = replace(FULL, flushed_daily=parser.parse_args().counters)
    cores = Cores({"the flushing process": os.getpid()})
    with open_stage(sizes, lambda _: None) as stage:
        ratios = []
        for number, (ours, theirs) in enumerate(_flushes(stage, cores), 1):
            ratios.append(ours / theirs)
            print(
                f"flush {number}: {ours:,.0f} rows/s beside {theirs:,.0f}: {ratios[-1]:.2f} times",
                flush=True,
            )
    print(f"from the second on {statistics.median(ratios[1:]):.2f} times")


if __name__ == "__main__":
    main()
