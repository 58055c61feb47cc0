"""How long exact reads take while a flush runs in another process, beside the same reads of the
same counters before it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from sqlalchemy import text

from benchmarks.report.report import Measured, Samples
from benchmarks.stage.flusher import Flusher
from benchmarks.stage.stage import EVENT_TYPE, Stage

_AT_A_TIME = 10
_QUIET_ROUNDS = 50
_SELECT = "SELECT count FROM analytics_daily WHERE event_type = {event_type} AND date = {date}"

Reads = Mapping[str, Callable[[], object]]


def measure(stage: Stage) -> Measured:
    """Microseconds of `daily_count` and of `user_count`, quiet and during a flush; and of a SELECT
    of one row over a connection that is kept open."""
    today = datetime.now(UTC).date()
    stats, engine = stage.services.stats, stage.services.engine
    select = text(_SELECT.format(event_type=":event_type", date=":date"))
    user = f"user{stage.sizes.flushed_while_read // 2}"

    def by_sqlalchemy() -> None:
        with engine.connect() as connection:
            connection.execute(select, {"event_type": EVENT_TYPE, "date": today}).one()

    with stage.connect_postgres() as postgres:
        plain = _SELECT.format(event_type="%s", date="%s")
        reads: Reads = {
            "daily": lambda: stats.daily_count(EVENT_TYPE, today),
            "user": lambda: stats.user_count(user, EVENT_TYPE, today, today),
            "select": lambda: postgres.execute(plain, [EVENT_TYPE, today]).fetchone(),
            "sqlalchemy": by_sqlalchemy,
        }
        samples: Samples = {}
        for at in range(stage.sizes.rounds):
            stage.say(f"round {at + 1} of {stage.sizes.rounds}: reading, then flushing as well")
            for name, median_us in _medians_us(stage, reads).items():
                samples.setdefault(name, []).append(median_us)
    plain_us, engine_us = (statistics.median(samples[name]) for name in ("select", "sqlalchemy"))
    note = (
        f"Meanwhile psycopg takes {plain_us:,.0f} µs for a SELECT of one row on a connection that "
        "stays open; the same SELECT as SQLAlchemy users write it, by a connection from the "
        f"engine, takes {engine_us:,.0f} µs."
    )
    return Measured(samples, {"read-while-flushing": note})


def _medians_us(stage: Stage, reads: Reads) -> dict[str, float]:
    """Of every read, by its name; and of those without a flush, by `quiet-` and the name."""
    stage.clear()
    stage.fill(1)
    stage.services.flush()  # the row of the day, which is read, exists
    quiet: Samples = {f"quiet-{name}": [] for name in reads}
    flushing: Samples = {name: [] for name in reads}
    with Flusher() as flusher:
        stage.fill(stage.sizes.flushed_while_read)
        stage.wait_until_redis_rests()
        for _ in range(_QUIET_ROUNDS):
            _read_all(reads, quiet, "quiet-")
        flusher.begin()
        while flusher.is_flushing:
            _read_all(reads, flushing)
        assert flusher.result().stored > stage.sizes.flushed_while_read
    return {name: statistics.median(took) for name, took in (quiet | flushing).items()}


def _read_all(reads: Reads, took_us: Samples, prefix: str = "") -> None:
    for name, read in reads.items():
        for _ in range(_AT_A_TIME):
            began = time.perf_counter()
            read()
            took_us[prefix + name].append((time.perf_counter() - began) * 1e6)
