"""Monthly partitions, made before they are needed: by maintenance ahead of time, by a flush for
older events.

Months before `FIRST_MONTH` share the default partition, so that events of any age are stored and no
input can make partitions without end.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from sqlalchemy import Connection, Engine, Table, text

from pipeline.tables import PARTITIONED_BY_MONTH

FIRST_MONTH = date(2000, 1, 1)
_LOCK_TIMEOUT = "5s"


def ensure_months(engine: Engine, table: Table, days: Iterable[date]) -> None:
    """Make the partitions of `table` that hold `days`, where they are missing. May be repeated and
    raced."""
    months = sorted({month_of(day) for day in days if day >= FIRST_MONTH})
    if not months:
        return
    with engine.connect() as connection:
        present = _present(connection, table)
    for month in months:
        if partition_name(table, month) not in present:
            _make(engine, table, month)


def make_ahead(engine: Engine, today: date, months: int) -> None:
    """Make this month's partitions and those of the next `months` months for every partitioned
    table."""
    needed = [today]
    for _ in range(months):
        needed.append(next_month(needed[-1]))
    for table in PARTITIONED_BY_MONTH:
        ensure_months(engine, table, needed)


def month_of(day: date) -> date:
    """The first day of the month."""
    return day.replace(day=1)


def next_month(day: date) -> date:
    """The first day of the month after."""
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def partition_name(table: Table, month: date) -> str:
    """The name of the partition of a month."""
    return f"{table.name}_{month:%Y_%m}"


def _present(connection: Connection, table: Table) -> set[str]:
    found = connection.execute(
        text(
            "SELECT inhrelid::regclass::text FROM pg_inherits "
            "WHERE inhparent = CAST(:t AS regclass)"
        ),
        {"t": table.name},
    )
    return {str(name) for name in found.scalars()}


def _make(engine: Engine, table: Table, month: date) -> None:
    # Attaching takes a weaker lock on the table than CREATE TABLE … PARTITION OF, so that traffic
    # goes on.
    name = partition_name(table, month)
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('analytics:partitions'))"))
        if name in _present(connection, table):
            return
        connection.execute(
            text(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING DEFAULTS INCLUDING INDEXES)")
        )
        connection.execute(
            text(
                f"ALTER TABLE {table.name} ATTACH PARTITION {name} "
                f"FOR VALUES FROM ('{month}') TO ('{next_month(month)}')"
            )
        )
