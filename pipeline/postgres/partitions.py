"""Partitions, by month or by day, made before they are needed: by maintenance ahead of time, by a
flush or the archive for older events.

Days before `FIRST_DAY` share the default partition, so that events of any age are stored and no
input can make partitions without end. All days are UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import Connection, Engine, Table, text

from pipeline.days import begin_day, begin_month, begin_next_month, list_days
from pipeline.postgres.tables import PARTITIONED_BY_DAY, PARTITIONED_BY_MONTH

FIRST_DAY = date(2000, 1, 1)
DAYS_AHEAD = 7
_LOCK_TIMEOUT = "5s"


@dataclass(frozen=True, order=True)
class Partition:
    """A partition: its name, its first day, and the day after its last."""

    first: date
    end: date
    name: str


def ensure_months(engine: Engine, table: Table, days: Iterable[date]) -> None:
    """Make the partitions of `table` that hold `days`, where they are missing. May be repeated and
    raced."""
    months = {begin_month(day) for day in days if day >= FIRST_DAY}
    _ensure(engine, table, {_of_month(table, month) for month in months})


def ensure_days(engine: Engine, table: Table, days: Iterable[date]) -> None:
    """The same for a table that is partitioned by day."""
    _ensure(engine, table, {_of_day(table, day) for day in days if day >= FIRST_DAY})


def make_ahead(engine: Engine, today: date, months: int) -> None:
    """Make the partitions of this month and the next `months` months, or of today and the next
    `DAYS_AHEAD` days, for every partitioned table."""
    needed = [today]
    for _ in range(months):
        needed.append(begin_next_month(needed[-1]))
    for table in PARTITIONED_BY_MONTH:
        ensure_months(engine, table, needed)
    for table in PARTITIONED_BY_DAY:
        ensure_days(engine, table, list_days(today, today + timedelta(days=DAYS_AHEAD)))


def existing(connection: Connection, table: Table) -> list[Partition]:
    """The partitions of a table, the oldest first, without the default one."""
    by_day = table in PARTITIONED_BY_DAY
    found = []
    for name in _present(connection, table):
        ending = name.removeprefix(f"{table.name}_").replace("_", "-")
        if ending != "default":
            first = date.fromisoformat(ending if by_day else f"{ending}-01")
            found.append(_of_day(table, first) if by_day else _of_month(table, first))
    return sorted(found)


def drop(engine: Engine, table: Table, partition: Partition) -> None:
    """Detach a partition and drop it: its rows are gone at once, however many. May be repeated.

    Raises sqlalchemy.exc.OperationalError when a reader holds the table for longer than the lock is
    waited for; then nothing has changed.
    """
    with engine.begin() as connection:
        _lock(connection)
        if partition.name not in _present(connection, table):
            return
        connection.execute(text(f"ALTER TABLE {table.name} DETACH PARTITION {partition.name}"))
        connection.execute(text(f"DROP TABLE {partition.name}"))


def drop_default(engine: Engine, table: Table, before: date) -> None:
    """Drop what the default partition holds, unless some of it is as young as `before`: it is
    replaced by an empty one. Raises as `drop` does."""
    name = f"{table.name}_default"
    key = "timestamp" if table in PARTITIONED_BY_DAY else "date"
    with engine.begin() as connection:
        _lock(connection)
        anything = connection.execute(text(f"SELECT 1 FROM {name} LIMIT 1")).first()
        young = text(f"SELECT 1 FROM {name} WHERE {key} >= '{_bound(table, before)}' LIMIT 1")
        if anything is None or connection.execute(young).first() is not None:
            return
        connection.execute(text(f"ALTER TABLE {table.name} DETACH PARTITION {name}"))
        connection.execute(text(f"DROP TABLE {name}"))
        connection.execute(text(f"CREATE TABLE {name} PARTITION OF {table.name} DEFAULT"))


def _of_month(table: Table, month: date) -> Partition:
    return Partition(month, begin_next_month(month), f"{table.name}_{month:%Y_%m}")


def _of_day(table: Table, day: date) -> Partition:
    return Partition(day, day + timedelta(days=1), f"{table.name}_{day:%Y_%m_%d}")


def _ensure(engine: Engine, table: Table, partitions: set[Partition]) -> None:
    if not partitions:
        return
    with engine.connect() as connection:
        present = _present(connection, table)
    for partition in sorted(partitions):
        if partition.name not in present:
            _make(engine, table, partition)


def _present(connection: Connection, table: Table) -> set[str]:
    found = connection.execute(
        text(
            "SELECT inhrelid::regclass::text FROM pg_inherits "
            "WHERE inhparent = CAST(:t AS regclass)"
        ),
        {"t": table.name},
    )
    return {str(name) for name in found.scalars()}


def _lock(connection: Connection) -> None:
    connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('analytics:partitions'))"))


def _make(engine: Engine, table: Table, partition: Partition) -> None:
    # Attaching takes a weaker lock on the table than CREATE TABLE … PARTITION OF, so that traffic
    # goes on.
    first, end = (_bound(table, day) for day in (partition.first, partition.end))
    with engine.begin() as connection:
        _lock(connection)
        if partition.name in _present(connection, table):
            return
        connection.execute(
            text(
                f"CREATE TABLE {partition.name} "
                f"(LIKE {table.name} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)"
            )
        )
        connection.execute(
            text(
                f"ALTER TABLE {table.name} ATTACH PARTITION {partition.name} "
                f"FOR VALUES FROM ('{first}') TO ('{end}')"
            )
        )


def _bound(table: Table, day: date) -> str:
    if table in PARTITIONED_BY_DAY:
        return begin_day(day).isoformat()
    return day.isoformat()
