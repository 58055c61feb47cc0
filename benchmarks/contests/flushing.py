"""How many user counters a flush stores a second, all of them new rows, beside what Postgres does
with the same rows when they come from a client or from a table."""

from __future__ import annotations

import os
import statistics
import time
from datetime import UTC, datetime

from benchmarks.report.report import Measured
from benchmarks.rivals import upserts
from benchmarks.stage.processes import Cores
from benchmarks.stage.stage import EVENT_TYPE, Stage

_BY_KEY = "ORDER BY date, event_type, user_id"


def measure(stage: Stage) -> Measured:
    """Rows a second of our flush, of upserts by executemany and of INSERT … SELECT."""
    sizes, today = stage.sizes, datetime.now(UTC).date()
    cores = Cores({"the flushing process": os.getpid(), "Redis": stage.redis_pid}, "Postgres")
    with stage.connect_postgres() as postgres:
        upserts.make_tables(postgres, EVENT_TYPE, today, sizes.flushed)
        samples = stage.interleave(
            {
                "flush": lambda: _flushed_per_s(stage, cores),
                "executemany": lambda: upserts.executemany_per_s(
                    postgres, EVENT_TYPE, today, sizes.upserted
                ),
                "insert-select": lambda: upserts.insert_select_per_s(postgres, sizes.flushed),
            },
            sizes.rounds_of_flush,
        )
        stage.say("INSERT … SELECT in the order of the key")
        in_order = upserts.insert_select_per_s(postgres, sizes.flushed, _BY_KEY)
        upserts.drop_tables(postgres)
    flushed = statistics.median(samples["flush"])
    return Measured(
        samples,
        {
            "flush-executemany": f"CPU used, of {os.cpu_count()} cores: {cores}.",
            "flush-postgres": "The rows of INSERT … SELECT lie in no order, as counters leave "
            f"Redis in none; sorted by the key first, it stores {in_order:,.0f} rows/s, of which "
            f"the flush reaches {flushed / in_order:.0%}.",
        },
    )


def _flushed_per_s(stage: Stage, cores: Cores) -> float:
    stage.clear()
    stage.fill(stage.sizes.flushed)
    with cores:
        began = time.perf_counter()
        stored = stage.services.flush()
        return stored / (time.perf_counter() - began)
