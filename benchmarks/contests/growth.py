"""What ten and a hundred times as many counters cost: memory, flush and reads must not grow faster
than the work.

`python -m benchmarks.contests.growth 1000000 10000000` measures these sizes alone, and beside each
how long Postgres by itself takes to store as many rows from a table: whether it is what grows.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from rich.table import Table

from benchmarks.rivals import upserts
from benchmarks.stage import sides
from benchmarks.stage.flusher import Flusher
from benchmarks.stage.probe import Probe
from benchmarks.stage.stage import EVENT_TYPE, FULL, USERS, Stage, open_stage, users
from pipeline.contract import EVENTS_QUEUE
from pipeline.intake.unacknowledged import Fetch

_READS = 200
_MOST_UNACKNOWLEDGED = 1_000_000
"""Ten times as many would take Redis 15 GB; a worker never holds more than some thousand."""
_TOLERANCE = 1.5
"""From one size to the next. Less than that is the noise of a shared machine, and the one more
level that an index has."""
STALL_LIMIT_MS = 20


@dataclass(frozen=True)
class Point:
    """What was measured with so many live counters, or so many unacknowledged events."""

    counters: int
    bytes_per_counter: float
    bytes_per_unacknowledged: float | None
    flush_s: float
    read_us: float
    flusher_bytes: float
    flusher_grew_bytes: float
    stall_ms: float
    command_ms: float
    command: str


@dataclass(frozen=True)
class Quantity:
    """A column of the table, and what it is expected to follow: the number of counters ("work"),
    nothing at all ("nothing"), or a limit that it may not pass whatever the number ("limit"); what
    says in another way what a further column does is only "shown"."""

    name: str
    unit: str
    of: Callable[[Point], float | None]
    follows: str


QUANTITIES = (
    Quantity("memory per live counter", "bytes", lambda p: p.bytes_per_counter, "nothing"),
    Quantity(
        "memory per unacknowledged event", "bytes", lambda p: p.bytes_per_unacknowledged, "nothing"
    ),
    Quantity("flush of all counters", "s", lambda p: p.flush_s, "work"),
    Quantity("flush, for a counter", "µs", lambda p: p.flush_s / p.counters * 1e6, "shown"),
    Quantity("daily_count while they are live", "µs", lambda p: p.read_us, "nothing"),
    Quantity("flushing process", "MiB", lambda p: p.flusher_bytes / 2**20, "nothing"),
    Quantity("longest wait for Redis in a flush", "ms", lambda p: p.stall_ms, "limit"),
    Quantity("longest Redis command in a flush", "ms", lambda p: p.command_ms, "limit"),
)


def measure(stage: Stage) -> list[Point]:
    """A point for each size, smallest first."""
    return [_measure(stage, counters) for counters in stage.sizes.growth]


def _measure(stage: Stage, counters: int) -> Point:
    stage.say(f"growth: {counters:,} counters")
    stage.clear()
    with Flusher() as flusher, _no_rewrites(stage):
        empty_bytes = stage.used_bytes()
        stage.fill(counters)
        counters_bytes = stage.used_bytes() - empty_bytes
        stage.wait_until_redis_rests()
        read_us = _read_us(stage)
        with Probe(stage.services.redis) as probe:
            flusher.begin()
            flushed = flusher.result()
            stage.wait_until_redis_rests()
            stall = probe.result()
    bytes_per_unacknowledged = None
    if counters <= _MOST_UNACKNOWLEDGED:
        stage.say(f"growth: {counters:,} unacknowledged events")
        bytes_per_unacknowledged = _unacknowledged_bytes(stage, counters) / counters
    return Point(
        counters=counters,
        bytes_per_counter=counters_bytes / counters,
        bytes_per_unacknowledged=bytes_per_unacknowledged,
        flush_s=flushed.elapsed_s,
        read_us=read_us,
        flusher_bytes=flushed.peak_bytes,
        flusher_grew_bytes=flushed.peak_bytes - flushed.before_bytes,
        stall_ms=stall.seen_ms,
        command_ms=stall.command_ms,
        command=stall.command,
    )


@contextmanager
def _no_rewrites(stage: Stage) -> Iterator[None]:
    """Let Redis rewrite no append-only file by itself: its fork holds it for a moment, and what
    makes it due is the filling."""
    redis = stage.services.redis
    setting = "auto-aof-rewrite-percentage"
    was = redis.config_get(setting)[setting] or 100
    redis.config_set(setting, 0)
    try:
        yield
    finally:
        redis.config_set(setting, was)


def _read_us(stage: Stage) -> float:
    today = datetime.now(UTC).date()
    reads_us = []
    for _ in range(_READS):
        began = time.perf_counter()
        stage.services.stats.daily_count(EVENT_TYPE, today)
        reads_us.append((time.perf_counter() - began) * 1e6)
    return statistics.median(reads_us)


def _unacknowledged_bytes(stage: Stage, events: int) -> int:
    """What Redis needs for so many messages that a worker has fetched, as an event worker fetches
    them, and not acknowledged."""
    client, keys = stage.services.redis, stage.services.keys
    ours = sides.ours(stage)
    stage.clear()
    for user in users(min(USERS, events)):
        ours.send(user)
    client.rename(EVENTS_QUEUE, "kept")
    empty_bytes = stage.used_bytes()
    for _ in range(0, events, USERS):
        client.copy("kept", EVENTS_QUEUE)
        while client.exists(EVENTS_QUEUE):
            Fetch(client, keys, [EVENTS_QUEUE]).answer()
    used_bytes = stage.used_bytes() - empty_bytes
    stage.clear()
    return used_bytes


def too_fast(points: Sequence[Point]) -> list[str]:
    """A sentence for each quantity that grew faster than it may from one size to the next, or that
    passed its limit."""
    return [
        f"{quantity.name} grows faster than the work: {was:,.1f} {quantity.unit} at "
        f"{small.counters:,}, {now:,.1f} at {large.counters:,}."
        for quantity in QUANTITIES
        for small, large in pairwise(points)
        if (was := quantity.of(small)) is not None
        and (now := quantity.of(large)) is not None
        and now > was * _TOLERANCE * _allowed(quantity, small, large)
    ] + [
        f"{quantity.name} is {value:,.1f} {quantity.unit} at {point.counters:,}, and should be at "
        f"most {STALL_LIMIT_MS}; Redis's longest command was {point.command or 'under 1 ms'}."
        for quantity in QUANTITIES
        for point in points
        if quantity.follows == "limit" and (value := quantity.of(point) or 0) > STALL_LIMIT_MS
    ]


def _allowed(quantity: Quantity, small: Point, large: Point) -> float:
    if quantity.follows in ("limit", "shown"):
        return math.inf
    return large.counters / small.counters if quantity.follows == "work" else 1


def markdown(points: Sequence[Point]) -> list[str]:
    """The points as lines of a Markdown table."""
    sizes = [f"{point.counters:,}" for point in points]
    lines = [f"| live counters | {' | '.join(sizes)} |", "| --- |" + " --- |" * len(points)]
    for quantity in QUANTITIES:
        figures = (_figure(quantity, point) for point in points)
        lines.append(f"| {quantity.name} ({quantity.unit}) | {' | '.join(figures)} |")
    return lines


def table(points: Sequence[Point]) -> Table:
    """The points for people."""
    shown = Table(title="Growth with the number of live counters")
    shown.add_column("", overflow="fold")
    for point in points:
        shown.add_column(f"{point.counters:,}", justify="right")
    for quantity in QUANTITIES:
        figures = (_figure(quantity, point) for point in points)
        shown.add_row(f"{quantity.name} ({quantity.unit})", *figures)
    return shown


def main() -> None:
    """Measure what the arguments say."""
    with open_stage(FULL, lambda _: None) as stage:
        for counters in map(int, sys.argv[1:]):
            point = _measure(stage, counters)
            print("\n".join(markdown([point])))
            print(f"Postgres alone: {_postgres_s(stage, counters):.4g} s", flush=True)


def _postgres_s(stage: Stage, counters: int) -> float:
    today = datetime.now(UTC).date()
    stage.clear()
    with (
        stage.connect_postgres() as postgres,
        upserts.tables(postgres, EVENT_TYPE, today, counters),
    ):
        return counters / upserts.insert_select_per_s(postgres, counters)


def _figure(quantity: Quantity, point: Point) -> str:
    value = quantity.of(point)
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.4g}"


if __name__ == "__main__":
    main()
