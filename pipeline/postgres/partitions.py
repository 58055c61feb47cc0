"""Partitions, by month or by day, made before they are needed: by maintenance ahead of time, by a
flush or the archive for the near past.

Older days share the default partition, so that events of any age are stored and a client that names
thousands of days makes no partition for them. All days are UTC.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import Connection, Engine, Table, text
from sqlalchemy.exc import DBAPIError

from pipeline.days import begin_day, begin_month, begin_next_month, list_days
from pipeline.postgres.refusals import read_sqlstate
from pipeline.postgres.tables import FILL_FACTOR, PARTITIONED_BY_DAY, PARTITIONED_BY_MONTH

DAYS_AHEAD = 7
OWN_DAYS = 92
"""For so long back a day gets a partition of its own when events of it come."""
OWN_MONTHS = 24
"""The same for months."""
_MADE_AT_ONCE = 8
"""Partitions that one batch has made, at a twentieth of a second each; those with most rows."""
_LOCK_TIMEOUT = "5s"
_NOT_NOW = ("55P03", "23514", "42501", "42P07")
"""SQLSTATE: lock timeout; the default partition has got rows of that time meanwhile; the user may
not make a table, or does not own the partitioned one; another program has one of that name."""

_DELETED_AT_ONCE = 10_000
_LARGE_BYTES = 64 * 1024 * 1024
"""Size of a default partition that Postgres reads in a tenth of a second."""
_RULED_OUT = "analytics_ruled_out"
"""A constraint of the default partition while a partition is made ahead."""

_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('schema$.analytics:partitions'))")

logger = logging.getLogger(__name__)

RowsByDay = Mapping[str, int]
"""How many rows a batch has of each day, which is written `YYYY-MM-DD`."""


@dataclass(frozen=True, order=True)
class Partition:
    """A partition: its name, its first day, and the day after its last."""

    first: date
    end: date
    name: str


def ensure_months(engine: Engine, table: Table, days: RowsByDay, today: date) -> None:
    """Make the partitions of `table` that these rows deserve, where they are missing: those of the
    last `OWN_MONTHS` months, a few at a time. May be repeated and raced.

    Other rows share the default partition. So do those of a partition that cannot be made now,
    because a long read of the table is in the way, and of one that could not be made before.
    """
    with engine.connect() as connection:
        missing = _find_missing_months(connection, table, days, today)
    _make_missing(engine, table, missing)


def misses_months(connection: Connection, days: Mapping[Table, Iterable[str]], today: date) -> bool:
    """Whether `ensure_months` would make a partition of a table for rows of these days."""
    return any(
        _find_missing_months(connection, table, Counter(of_table), today)
        for table, of_table in days.items()
    )


def _find_missing_months(
    connection: Connection, table: Table, days: RowsByDay, today: date
) -> list[Partition]:
    months = Counter[Partition]()
    for written, rows in days.items():
        day = date.fromisoformat(written)
        if _months_between(day, today) < OWN_MONTHS:
            months[_of_month(table, begin_month(day))] += rows
    return _find_missing(connection, table, months) if months else []


def _make_missing(engine: Engine, table: Table, missing: Sequence[Partition]) -> None:
    """Make the first few of these partitions, each in a transaction of its own. May be repeated and
    raced; to be called while the caller has no transaction open, since a pool may have one
    connection only."""
    with _tolerate(table):
        for partition in missing[:_MADE_AT_ONCE]:
            _make(engine, table, partition)


def ensure_days(engine: Engine, table: Table, days: RowsByDay, today: date) -> None:
    """Do as `ensure_months` does for a table that is partitioned by day, and for the last
    `OWN_DAYS` days."""
    own = Counter[Partition]()
    for written, rows in days.items():
        day = date.fromisoformat(written)
        if (today - day).days < OWN_DAYS:
            own[_of_day(table, day)] = rows
    if own:
        with engine.connect() as connection:
            missing = _find_missing(connection, table, own)
        _make_missing(engine, table, missing)


def make_ahead(engine: Engine, today: date, months: int) -> None:
    """Make the partitions of this month and the next `months` months, or of today and the next
    `DAYS_AHEAD` days, for every partitioned table."""
    needed = [today]
    for _ in range(months):
        needed.append(begin_next_month(needed[-1]))
    for table in PARTITIONED_BY_MONTH:
        _make_ahead(engine, table, [_of_month(table, begin_month(day)) for day in needed], today)
    for table in PARTITIONED_BY_DAY:
        days = list_days(today, today + timedelta(days=DAYS_AHEAD))
        _make_ahead(engine, table, [_of_day(table, day) for day in days], today)


def find_missing_ahead(connection: Connection, today: date) -> list[str]:
    """Names of partitions that `make_ahead` would have made by now and that are soon needed: those
    of this month and the next, of today and tomorrow."""
    needed: list[tuple[Table, Partition]] = []
    for table in PARTITIONED_BY_MONTH:
        needed += [(table, _of_month(table, begin_month(today)))]
        needed += [(table, _of_month(table, begin_next_month(today)))]
    for table in PARTITIONED_BY_DAY:
        days = list_days(today, today + timedelta(days=1))
        needed += [(table, _of_day(table, day)) for day in days]
    present = {table: _present(connection, table) for table, _ in needed}
    return [one.name for table, one in needed if one.name not in present[table]]


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


MayDrop = Callable[[Connection], None]
"""Is called in the transaction that has dropped rows, before it commits, while none of them can
come back; what it raises undoes the drop."""


def drop(engine: Engine, table: Table, partition: Partition, check: MayDrop | None = None) -> None:
    """Detach a partition and drop it: its rows are gone at once, however many. May be repeated.

    Raises sqlalchemy.exc.OperationalError when a reader holds the table for longer than the lock is
    waited for; then nothing has changed.
    """
    with engine.begin() as connection:
        _lock(connection)
        if partition.name not in _present(connection, table):
            return
        _drop(connection, table, partition.name)
        if check is not None:
            check(connection)


def holds_older(engine: Engine, table: Table, before: date) -> bool:
    """Whether the default partition holds rows from before that day."""
    old = f"SELECT 1 FROM {_ours(table)}_default WHERE {_is_older(table, before)} LIMIT 1"
    with engine.connect() as connection:
        return connection.execute(text(old)).first() is not None


def prune_default(engine: Engine, table: Table, before: date, check: MayDrop | None = None) -> None:
    """Remove the rows from before that day from the default partition. May be repeated.

    When it holds no younger ones it is replaced by an empty one, else they are deleted, some
    thousand in a transaction; those that a flush is adding to are left for the next time. Raises as
    `drop` does.
    """
    name, old = f"{table.name}_default", _is_older(table, before)
    with engine.begin() as connection:
        _lock(connection)
        young = text(f"SELECT 1 FROM schema$.{name} WHERE NOT ({old}) LIMIT 1")
        if connection.execute(young).first() is None:
            _drop(connection, table, name)
            again = f"CREATE TABLE schema$.{name} PARTITION OF {_ours(table)} DEFAULT"
            connection.execute(text(f"{again} {_storage(table)}"))
            if check is not None:
                check(connection)
            return
    page = (
        f"SELECT ctid FROM schema$.{name} WHERE {old} LIMIT {_DELETED_AT_ONCE} "
        "FOR UPDATE SKIP LOCKED"
    )
    delete = text(f"DELETE FROM schema$.{name} WHERE ctid = ANY(ARRAY({page}))")
    deleted = 1
    while deleted:
        with engine.begin() as connection:
            deleted = connection.execute(delete).rowcount
            if check is not None:
                check(connection)


def _of_month(table: Table, month: date) -> Partition:
    return Partition(month, begin_next_month(month), f"{table.name}_{month:%Y_%m}")


def _of_day(table: Table, day: date) -> Partition:
    return Partition(day, day + timedelta(days=1), f"{table.name}_{day:%Y_%m_%d}")


def _months_between(earlier: date, later: date) -> int:
    return 12 * (later.year - earlier.year) + later.month - earlier.month


def _find_missing(
    connection: Connection, table: Table, rows: Counter[Partition]
) -> list[Partition]:
    present = _present(connection, table)
    return [
        one
        for one, _ in rows.most_common()
        if one.name not in present and not _shares_default(connection, table, one)
    ]


@contextmanager
def _tolerate(table: Table) -> Iterator[None]:
    """Go on without a partition that cannot be made now: its rows share the default one."""
    try:
        yield
    except DBAPIError as error:
        if read_sqlstate(error) not in _NOT_NOW:
            raise
        logger.warning("some rows go to the default partition of %s: %s", table.name, error.orig)


def _make_ahead(engine: Engine, table: Table, partitions: Iterable[Partition], today: date) -> None:
    with engine.connect() as connection:
        present = _present(connection, table)
        size = text(f"SELECT pg_relation_size('{_ours(table)}_default')")
        is_large = connection.execute(size).scalar_one() > _LARGE_BYTES
    for partition in partitions:
        if partition.name not in present:
            with _tolerate(table):
                if is_large and partition.first > today + timedelta(days=2):
                    _rule_out(engine, table, partition)
                _make(engine, table, partition)


def _rule_out(engine: Engine, table: Table, partition: Partition) -> None:
    """Have Postgres make sure that the default partition has no rows of a time for which none can
    come yet. Attaching would do that too, and hold up all that reads or adds old rows meanwhile."""
    name = f"{_ours(table)}_default"
    outside = f"{_key(table)} IS NULL OR NOT ({_is_inside(table, partition)})"
    with engine.begin() as connection:
        _lock(connection)
        connection.execute(text(f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {_RULED_OUT}"))
        connection.execute(
            text(f"ALTER TABLE {name} ADD CONSTRAINT {_RULED_OUT} CHECK ({outside}) NOT VALID")
        )
    with engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {name} VALIDATE CONSTRAINT {_RULED_OUT}"))


def _shares_default(connection: Connection, table: Table, partition: Partition) -> bool:
    """Whether the default partition holds rows of that time: then it keeps all of them."""
    inside = _is_inside(table, partition)
    found = connection.execute(text(f"SELECT 1 FROM {_ours(table)}_default WHERE {inside} LIMIT 1"))
    return found.first() is not None


def _present(connection: Connection, table: Table) -> set[str]:
    found = connection.execute(
        text(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
            f"WHERE inhparent = CAST('{_ours(table)}' AS regclass)"
        )
    )
    return {str(name) for name in found.scalars()}


def _lock(connection: Connection) -> None:
    connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
    connection.execute(_ONE_AT_A_TIME)


def _make(engine: Engine, table: Table, partition: Partition) -> None:
    # Attaching takes a weaker lock on the table than CREATE TABLE … PARTITION OF, so that traffic
    # goes on.
    first, end = (_bound(table, day) for day in (partition.first, partition.end))
    with engine.begin() as connection:
        _lock(connection)
        if partition.name in _present(connection, table) or _shares_default(
            connection, table, partition
        ):
            return
        connection.execute(
            text(
                f"CREATE TABLE schema$.{partition.name} "
                f"(LIKE {_ours(table)} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES) "
                f"{_storage(table)}"
            )
        )
        connection.execute(
            text(
                f"ALTER TABLE {_ours(table)} ATTACH PARTITION schema$.{partition.name} "
                f"FOR VALUES FROM ('{first}') TO ('{end}')"
            )
        )
        connection.execute(
            text(f"ALTER TABLE {_ours(table)}_default DROP CONSTRAINT IF EXISTS {_RULED_OUT}")
        )


def _drop(connection: Connection, table: Table, name: str) -> None:
    connection.execute(text(f"ALTER TABLE {_ours(table)} DETACH PARTITION schema$.{name}"))
    connection.execute(text(f"DROP TABLE schema$.{name}"))


def _ours(table: Table) -> str:
    """The table's name, to stand in a text of SQL."""
    return f"schema$.{table.name}"


def _storage(table: Table) -> str:
    return f"WITH (fillfactor = {FILL_FACTOR})" if table in PARTITIONED_BY_MONTH else ""


def _bound(table: Table, day: date) -> str:
    if table in PARTITIONED_BY_DAY:
        return begin_day(day).isoformat()
    return day.isoformat()


def _key(table: Table) -> str:
    return "timestamp" if table in PARTITIONED_BY_DAY else "date"


def _is_inside(table: Table, partition: Partition) -> str:
    first, end = (_bound(table, day) for day in (partition.first, partition.end))
    return f"{_key(table)} >= '{first}' AND {_key(table)} < '{end}'"


def _is_older(table: Table, before: date) -> str:
    return f"{_key(table)} < '{_bound(table, before)}'"
