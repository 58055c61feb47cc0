"""How many user counters a flush stores a second, new rows and then the same rows again, beside
what Postgres does with them when they come from a client or from a table; what it costs Redis, and
how much memory the counters take there before."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

import psycopg

from benchmarks.report.report import Measured, Samples
from benchmarks.rivals import upserts
from benchmarks.stage.processes import Cores
from benchmarks.stage.stage import EVENT_TYPE, Stage

REDIS_US_BEFORE = 5.0
"""Of Redis's CPU for a counter flushed, while each was a key of its own: measured once, on two
virtual cores, by this contest."""
BYTES_AT_MOST = 75.0
"""Of Redis's memory for a live counter; while each was a key of its own, 173."""


Ways = Mapping[str, Callable[[psycopg.Connection], float]]


def measure(stage: Stage) -> Measured:
    """Rows a second of our flush, of upserts by executemany and of INSERT … SELECT, the first and
    the second time that they store these users' counts of a day."""
    sizes, today = stage.sizes, datetime.now(UTC).date()
    new, again = (
        Cores({"the flushing process": os.getpid(), "Redis": stage.redis_pid}, "Postgres")
        for _ in range(2)
    )
    found: Samples = {"again": [], "insert-select-again": [], "redis": [], "bytes": []}

    def flush(postgres: psycopg.Connection) -> float:
        stage.clear()
        empty_bytes = stage.used_bytes()
        stage.fill(sizes.flushed)
        found["bytes"].append((stage.used_bytes() - empty_bytes) / sizes.flushed)
        per_s, redis_us = flush_pending(stage, new)
        found["redis"].append(redis_us)
        stage.fill(sizes.flushed)
        upserts.prepare(postgres, upserts.OURS)
        again_per_s, redis_us = flush_pending(stage, again)
        found["redis"].append(redis_us)
        found["again"].append(again_per_s)
        return per_s

    def insert_select(postgres: psycopg.Connection) -> float:
        upserts.empty(postgres)
        per_s = upserts.insert_select_per_s(postgres, sizes.flushed)
        upserts.prepare(postgres, upserts.TABLE)
        again_per_s = upserts.insert_select_per_s(postgres, sizes.flushed)
        found["insert-select-again"].append(again_per_s)
        return per_s

    executemany = partial(
        upserts.executemany_per_s, event_type=EVENT_TYPE, day=today, rows=sizes.upserted
    )
    ways: Ways = {"flush": flush, "executemany": executemany, "insert-select": insert_select}
    with (
        stage.connect_postgres() as postgres,
        upserts.tables(postgres, EVENT_TYPE, today, sizes.flushed),
    ):
        samples = stage.interleave(
            {name: partial(way, postgres) for name, way in ways.items()}, sizes.rounds_of_flush
        )
    once = {"redis-before": [REDIS_US_BEFORE], "bytes-at-most": [BYTES_AT_MOST]}
    cpus = os.cpu_count()
    return Measured(
        samples | found | once,
        {
            "flush-executemany": f"CPU used, of {cpus} cores: {new}.",
            "flush-postgres": f"CPU used, of {cpus} cores: {new}.",
            "flush-again": f"CPU used, of {cpus} cores: {again}.",
        },
    )


def flush_pending(stage: Stage, cores: Cores) -> tuple[float, float]:
    """Flush what is pending; returns rows a second, and the CPU time (µs) that Redis needs for a
    row, with what it does later to free memory."""
    stage.wait_until_redis_rests()
    before_s = stage.redis_cpu_s()
    with cores:
        began = time.perf_counter()
        stored = stage.services.flush()
        elapsed_s = time.perf_counter() - began
    stage.wait_until_redis_rests()
    return stored / elapsed_s, (stage.redis_cpu_s() - before_s) / stored * 1e6
