"""What ten and a hundred times as many counters cost: memory, flush and reads must not grow faster
than the work."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from rich.table import Table

from benchmarks.stage import sides
from benchmarks.stage.flusher import Flusher
from benchmarks.stage.stage import EVENT_TYPE, USERS, Stage, users, wait_until
from pipeline.contract import EVENTS_QUEUE
from pipeline.redis.scripts import Script

_READS = 200
_FETCHED_AT_ONCE = 500
_FETCHED_BYTES = 4 * 1024 * 1024
_TOLERANCE = 1.5
"""From one size to the next. Less than that is the noise of a shared machine, and the one more
level that an index has."""


@dataclass(frozen=True)
class Point:
    """What was measured with so many live counters, or so many unacknowledged events."""

    counters: int
    bytes_per_counter: float
    bytes_per_unacknowledged: float
    flush_s: float
    read_us: float
    flusher_bytes: float
    flusher_grew_bytes: float


@dataclass(frozen=True)
class Quantity:
    """A column of the table, and what it is expected to follow: the number of counters ("work"),
    or nothing at all ("nothing")."""

    name: str
    unit: str
    of: Callable[[Point], float]
    follows: str


QUANTITIES = (
    Quantity("memory per live counter", "bytes", lambda p: p.bytes_per_counter, "nothing"),
    Quantity(
        "memory per unacknowledged event", "bytes", lambda p: p.bytes_per_unacknowledged, "nothing"
    ),
    Quantity("flush of all counters", "s", lambda p: p.flush_s, "work"),
    Quantity("daily_count while they are live", "µs", lambda p: p.read_us, "nothing"),
    Quantity("flushing process", "MiB", lambda p: p.flusher_bytes / 2**20, "nothing"),
)


def measure(stage: Stage) -> list[Point]:
    """A point for each size, smallest first."""
    return [_measure(stage, counters) for counters in stage.sizes.growth]


def _measure(stage: Stage, counters: int) -> Point:
    today = datetime.now(UTC).date()
    stage.say(f"growth: {counters:,} counters")
    stage.clear()
    with Flusher() as flusher:
        empty_bytes = _used_bytes(stage)
        stage.fill(counters)
        counters_bytes = _used_bytes(stage) - empty_bytes
        wait_until(lambda: not _is_rewriting(stage), "the append-only file is rewritten")
        reads_us = []
        for _ in range(_READS):
            began = time.perf_counter()
            stage.services.stats.daily_count(EVENT_TYPE, today)
            reads_us.append((time.perf_counter() - began) * 1e6)
        flusher.begin()
        flushed = flusher.result()
    stage.say(f"growth: {counters:,} unacknowledged events")
    return Point(
        counters=counters,
        bytes_per_counter=counters_bytes / counters,
        bytes_per_unacknowledged=_unacknowledged_bytes(stage, counters) / counters,
        flush_s=flushed.elapsed_s,
        read_us=statistics.median(reads_us),
        flusher_bytes=flushed.peak_bytes,
        flusher_grew_bytes=flushed.peak_bytes - flushed.before_bytes,
    )


def _unacknowledged_bytes(stage: Stage, events: int) -> int:
    """What Redis needs for so many messages that a worker has fetched, as the transport fetches
    them, and not acknowledged."""
    client, keys = stage.services.redis, stage.services.keys
    ours, fetch = sides.ours(stage), Script("tasks.transport.fetch")
    stage.clear()
    for user in users(min(USERS, events)):
        ours.send(user)
    client.rename(EVENTS_QUEUE, "kept")
    empty_bytes = _used_bytes(stage)
    for _ in range(0, events, USERS):
        client.copy("kept", EVENTS_QUEUE)
        while client.exists(EVENTS_QUEUE):
            fetch.run(
                client,
                keys=[keys.unacked, keys.unacked_index, keys.dead, keys.totals, EVENTS_QUEUE],
                args=[_FETCHED_AT_ONCE, _FETCHED_BYTES, f'"{EVENTS_QUEUE}"'],
            )
    used_bytes = _used_bytes(stage) - empty_bytes
    stage.clear()
    return used_bytes


def _is_rewriting(stage: Stage) -> bool:
    # It takes a core for seconds, and what made it due was the filling.
    return bool(stage.services.redis.info("persistence")["aof_rewrite_in_progress"])


def _used_bytes(stage: Stage) -> int:
    # Without the clients' buffers and the append-only file's.
    memory = stage.services.redis.info("memory")
    return int(memory["used_memory"]) - int(memory["mem_not_counted_for_evict"])


def too_fast(points: Sequence[Point]) -> list[str]:
    """A sentence for each quantity that grew faster than it may from one size to the next."""
    return [
        f"{quantity.name} grows faster than the work: {quantity.of(small):,.1f} {quantity.unit} at "
        f"{small.counters:,}, {quantity.of(large):,.1f} at {large.counters:,}."
        for quantity in QUANTITIES
        for small, large in pairwise(points)
        if quantity.of(large) > quantity.of(small) * _TOLERANCE * _allowed(quantity, small, large)
    ]


def _allowed(quantity: Quantity, small: Point, large: Point) -> float:
    return large.counters / small.counters if quantity.follows == "work" else 1


def markdown(points: Sequence[Point]) -> list[str]:
    """The points as lines of a Markdown table."""
    sizes = [f"{point.counters:,}" for point in points]
    lines = [f"| live counters | {' | '.join(sizes)} |", "| --- |" + " --- |" * len(points)]
    for quantity in QUANTITIES:
        figures = (f"{quantity.of(point):,.4g}" for point in points)
        lines.append(f"| {quantity.name} ({quantity.unit}) | {' | '.join(figures)} |")
    return lines


def table(points: Sequence[Point]) -> Table:
    """The points for people."""
    shown = Table(title="Growth with the number of live counters")
    shown.add_column("", overflow="fold")
    for point in points:
        shown.add_column(f"{point.counters:,}", justify="right")
    for quantity in QUANTITIES:
        figures = (f"{quantity.of(point):,.4g}" for point in points)
        shown.add_row(f"{quantity.name} ({quantity.unit})", *figures)
    return shown
