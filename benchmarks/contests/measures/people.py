"""Distinct users of thirty closed days, and who of them comes back, beside SQL on the same rows.

The rows are made by Postgres: of three times as many users as come on a day, each comes on a day
with the same chance, so that users overlap as little as they may and bitmaps are as large.

`python -m benchmarks.contests.measures.people --users 1000000` measures with as many users a day as
it says, on servers of its own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import psycopg
from rich.console import Console

from benchmarks.report.report import Measured
from benchmarks.stage.stage import EVENT_TYPE, QUICK, Stage, open_stage
from pipeline.days import begin_month
from pipeline.postgres import partitions
from pipeline.postgres.tables import user_daily

DAYS = 30
_FILL = """
    INSERT INTO analytics_user_daily (date, event_type, user_id, count)
    SELECT CAST(%(day)s AS DATE), %(event_type)s, 'user' || n, 1
    FROM generate_series(1, 3 * %(users)s) AS n
    WHERE hashint8extended(n, %(seed)s) %% 3 = 0 ORDER BY 3
"""
_COUNT_DISTINCT = (
    "SELECT count(DISTINCT user_id) FROM analytics_user_daily "
    "WHERE date BETWEEN %(first)s AND %(last)s"
)
_RETAIN = """
    SELECT cohort.date, later.date - cohort.date, count(*)
    FROM analytics_user_daily AS cohort JOIN analytics_user_daily AS later USING (user_id)
    WHERE cohort.event_type = %(event_type)s AND cohort.date BETWEEN %(first)s AND %(last)s
    AND later.event_type = %(event_type)s AND later.date BETWEEN cohort.date AND %(last)s
    GROUP BY 1, 2
"""
_NOTE = (
    "{users:,} users a day here, so that the rows are made in seconds; the page of the benchmark "
    "says what a million a day took."
)


def measure(stage: Stage) -> Measured:
    """Milliseconds of the users active in thirty days, and of their retention day by day."""
    return measure_users(stage, stage.sizes.daily_users, stage.sizes.rounds)


def measure_users(stage: Stage, users: int, rounds: int) -> Measured:
    """Measure with so many users a day."""
    last = datetime.now(UTC).date() - timedelta(days=2)
    first = last - timedelta(days=DAYS - 1)
    days = {"first": first, "last": last, "event_type": EVENT_TYPE}
    stats = stage.services.stats
    with stage.connect_postgres() as postgres:
        _fill(stage, postgres, first, users)
        stage.say("sealing")
        stage.services.seal_users(datetime.now(UTC))
        postgres.execute("VACUUM (ANALYZE) analytics_user_daily, analytics_day_users")

        def count_distinct() -> int:
            return int(postgres.execute(_COUNT_DISTINCT, days).fetchone()[0])  # type: ignore[index]

        def retain() -> dict[tuple[date, int], int]:
            found = postgres.execute(_RETAIN, days).fetchall()
            return {(day, later): n for day, later, n in found}

        def our_retention() -> dict[tuple[date, int], int]:
            cohorts = stats.retention(EVENT_TYPE, EVENT_TYPE, "day", first, last).cohorts
            return {
                (one.start, later): n for one in cohorts for later, n in enumerate(one.returned)
            }

        assert stats.active_users(last).mau == count_distinct()
        assert our_retention() == retain()
        samples = stage.interleave(
            {
                "mau": lambda: _took_ms(lambda: stats.active_users(last)),
                "count-distinct": lambda: _took_ms(count_distinct),
                "retention": lambda: _took_ms(our_retention),
                "self-join": lambda: _took_ms(retain),
            },
            rounds,
        )
    note = _NOTE.format(users=users)
    return Measured(samples, {"mau": note, "retention": note})


def _fill(stage: Stage, postgres: psycopg.Connection, first: date, users: int) -> None:
    engine, now = stage.services.engine, datetime.now(UTC).date()
    for day in range(DAYS):
        at = first + timedelta(days=day)
        stage.say(f"making the rows of {at}")
        partitions.ensure_months(engine, user_daily, {f"{begin_month(at)}": users}, now)
        values = {"day": at, "event_type": EVENT_TYPE, "users": users, "seed": day}
        postgres.execute(_FILL, values)


def _took_ms(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1000


def main() -> None:
    """Print milliseconds with so many users a day as the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    console = Console()
    with console.status("") as status, open_stage(QUICK, status.update) as stage:
        found = measure_users(stage, options.users, options.rounds).samples
    for name, took_ms in found.items():
        console.print(f"{name}: {', '.join(f'{one:,.1f}' for one in took_ms)} ms")


if __name__ == "__main__":
    main()
