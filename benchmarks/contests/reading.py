"""How long an exact read takes while a flush runs in another process, beside one plain SELECT of a
row at the same time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import text

from benchmarks.report.report import Measured, Samples
from benchmarks.stage.flusher import Flusher
from benchmarks.stage.stage import EVENT_TYPE, Stage

_READS_AT_A_TIME = 10
_SELECT = "SELECT count FROM analytics_daily WHERE event_type = {event_type} AND date = {date}"


def measure(stage: Stage) -> Measured:
    """Microseconds of `daily_count`, and of the SELECT over a connection that is kept open."""
    today = datetime.now(UTC).date()
    stats, engine = stage.services.stats, stage.services.engine
    select = text(_SELECT.format(event_type=":event_type", date=":date"))

    def by_sqlalchemy() -> None:
        with engine.connect() as connection:
            connection.execute(select, {"event_type": EVENT_TYPE, "date": today}).one()

    with stage.connect_postgres() as postgres:
        plain = _SELECT.format(event_type="%s", date="%s")
        reads: dict[str, Callable[[], object]] = {
            "daily_count": lambda: stats.daily_count(EVENT_TYPE, today),
            "select": lambda: postgres.execute(plain, [EVENT_TYPE, today]).fetchone(),
            "sqlalchemy": by_sqlalchemy,
        }
        samples: Samples = {name: [] for name in reads}
        for at in range(stage.sizes.rounds):
            stage.say(f"round {at + 1} of {stage.sizes.rounds}: reading while a flush runs")
            for name, median_us in _medians_during_a_flush(stage, reads).items():
                samples[name].append(median_us)
    through_engine = statistics.median(samples["sqlalchemy"])
    note = (
        "The rival is psycopg on a connection that stays open; the same SELECT as SQLAlchemy users "
        f"write it, by a connection from the engine, takes {through_engine:,.0f} µs."
    )
    return Measured(samples, {"read-while-flushing": note})


def _medians_during_a_flush(
    stage: Stage, reads: dict[str, Callable[[], object]]
) -> dict[str, float]:
    times_us: Samples = {name: [] for name in reads}
    stage.clear()
    stage.fill(1)
    stage.services.flush()  # the row of the day, which is read, exists
    with Flusher() as flusher:
        stage.fill(stage.sizes.flushed_while_read)
        flusher.begin()
        while flusher.is_busy:
            for name, read in reads.items():
                for _ in range(_READS_AT_A_TIME):
                    began = time.perf_counter()
                    read()
                    times_us[name].append((time.perf_counter() - began) * 1e6)
        assert flusher.result().stored > stage.sizes.flushed_while_read
    return {name: statistics.median(times) for name, times in times_us.items()}
