"""The Postgres side of the counters: a flush transaction stores each batch once, and the ledger
proves it."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, func, select
from sqlalchemy.exc import DBAPIError

from pipeline.days import today
from pipeline.errors import RedisWentBack
from pipeline.flushing.claims import Claim
from pipeline.postgres import partitions
from pipeline.postgres.fitness import check_tables
from pipeline.postgres.locks import begin_transfer
from pipeline.postgres.refusals import blames_row
from pipeline.postgres.tables import (
    COUNTER_TABLES,
    ENTER_BATCH,
    INSERT_DEAD_COUNTERS,
    PARTITIONED_BY_MONTH,
    additive_upsert,
    daily,
    dimension_daily,
    event_log_gaps,
    flush_batches,
    hourly,
    key_columns,
    user_daily,
)
from pipeline.redis.keys import (
    DailyCounter,
    GapCounter,
    HourlyCounter,
    Keys,
    UserCounter,
    ValueCounter,
    hour_text,
)

Turn = AbstractContextManager[object]
Columns = Sequence[list[str]]
"""Rows of a table: the columns of its primary key in their order, then the counts."""

_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class Refused:
    """A counter that Postgres will not take."""

    counter: str
    count: int
    reason: str


UPSERTS = {table.name: additive_upsert(table) for table in COUNTER_TABLES}
_PRUNED_AT_ONCE = 1_000


class Store:
    """Where counters are stored. `transaction` opens a flush; nothing is stored before it ends."""

    def __init__(self, engine: Engine, keys: Keys) -> None:
        self.engine = engine
        self.keys = keys

    @contextmanager
    def transaction(self, lock_timeout_s: float = 30) -> Iterator[FlushTransaction]:
        """Open a flush transaction; it commits at the end of the block and rolls back on an error.

        Raises sqlalchemy.exc.OperationalError when Postgres is away, before anything is claimed.
        """
        with begin_transfer(self.engine, lock_timeout_s) as connection:
            yield FlushTransaction(connection, self)

    def make_partitions(self, claim: Claim) -> None:
        """Make the partitions that a batch deserves, or some of them; rows of the rest go to the
        default partition. To be called with no transaction open: a flush that held one connection
        and waited for a second would wait for ever where there are as many flushes as connections.
        """
        by_table, _ = rows_of(claim.counts, self.keys)
        for table in PARTITIONED_BY_MONTH:
            days = Counter(by_table[table.name][0])
            partitions.ensure_months(self.engine, table, days, today())

    def prune_batches(
        self, stored_before: datetime, listed: Callable[[Sequence[str]], set[str]]
    ) -> None:
        """Delete what the ledger holds from before then, but never its newest entry, nor one whose
        batch is among the `listed` of Redis: a flush may still find that in the journal, and only
        the ledger says that it is stored. May be repeated."""
        newest = select(func.max(flush_batches.c.stored_at)).scalar_subquery()
        old = select(flush_batches.c.batch_id).where(
            flush_batches.c.stored_at < stored_before, flush_batches.c.stored_at < newest
        )
        with self.engine.begin() as connection:
            ids = list(connection.execute(old).scalars())
            for first in range(0, len(ids), _PRUNED_AT_ONCE):
                page = ids[first : first + _PRUNED_AT_ONCE]
                unlisted = set(page) - listed(page)
                connection.execute(
                    delete(flush_batches).where(flush_batches.c.batch_id.in_(unlisted))
                )


@dataclass(frozen=True)
class FlushTransaction:
    """An open flush: what `save` writes is stored when the block of `Store.transaction` ends."""

    connection: Connection
    store: Store

    def newest_claim(self) -> tuple[int, int]:
        """The (epoch, number) of the newest claim in the ledger; (0, 0) while it is empty."""
        return newest_claim(self.connection)

    def save(self, claim: Claim, turn: Turn | None = None, *, as_is: bool = True) -> int | None:
        """Enter the batch in the ledger and add its counts; returns how many counters. Writes
        counts during its `turn` only.

        Does nothing when the ledger holds the batch. Raises `RedisWentBack` when another batch has
        its number. A counter that Postgres refuses becomes a dead letter, in the same transaction.
        Writes nothing and returns None when partitions are to be made first, unless stored `as_is`.
        """
        by_table, refused = rows_of(claim.counts, self.store.keys)
        days = {table: by_table[table.name][0] for table in PARTITIONED_BY_MONTH}
        if not as_is and partitions.misses_months(self.connection, days, today()):
            return None
        if not self._enter(claim):
            return 0
        with turn or nullcontext():
            for table in COUNTER_TABLES:
                refused += self._add(table, by_table[table.name])
        if refused:
            self._bury(refused)
        return len(claim.counts) - len(refused)

    def _enter(self, claim: Claim) -> bool:
        """Enter the batch in the ledger; returns whether it was new.

        A conflict with either unique key is no error, since two flushes may enter one batch at the
        same moment. What is then not there under its own id has the number of another.
        """
        batch = {"epoch": claim.epoch, "claim": claim.number, "rows": len(claim.counts)}
        if self.connection.execute(ENTER_BATCH, {"batch_id": claim.batch_id, **batch}).rowcount:
            return True
        stored = select(flush_batches.c.batch_id).where(flush_batches.c.batch_id == claim.batch_id)
        if self.connection.execute(stored).first() is None:
            raise _number_given_twice(claim)
        return False

    def _add(self, table: Table, columns: Columns) -> list[Refused]:
        """Upsert the rows; returns those that Postgres refuses."""
        if not columns[0]:
            return []
        try:
            with self.connection.begin_nested():
                self.connection.execute(UPSERTS[table.name], joined_columns(table, columns))
        except DBAPIError as error:
            if not blames_row(error):
                raise
            return self._find_refused(table, columns, error)
        return []

    def _find_refused(self, table: Table, columns: Columns, error: DBAPIError) -> list[Refused]:
        """Halve the rows until each of those that Postgres refuses stands alone."""
        rows = len(columns[0])
        if rows == 1:
            row = [column[0] for column in columns]
            name = counter_name(table, row, self.store.keys)
            return [Refused(name, int(row[-1]), str(error.orig))]
        halves = slice(None, rows // 2), slice(rows // 2, None)
        first, second = ([column[half] for column in columns] for half in halves)
        return self._add(table, first) + self._add(table, second)

    def _bury(self, refused: Sequence[Refused]) -> None:
        check_tables(self.connection)  # whose fault it may be
        self.connection.execute(
            INSERT_DEAD_COUNTERS,
            {
                "bodies": [
                    f"{one.counter} {one.count}".encode(errors="surrogateescape") for one in refused
                ],
                "reasons": [one.reason for one in refused],
            },
        )


def newest_claim(connection: Connection) -> tuple[int, int]:
    """The (epoch, number) of the newest claim in the ledger; (0, 0) while it is empty."""
    newest = (
        select(flush_batches.c.epoch, flush_batches.c.claim)
        .order_by(flush_batches.c.epoch.desc(), flush_batches.c.claim.desc())
        .limit(1)
    )
    found = connection.execute(newest).first()
    return (found.epoch, found.claim) if found else (0, 0)


def _number_given_twice(claim: Claim) -> RedisWentBack:
    # Redis has given one number to two claims: it lost the first one and went on.
    return RedisWentBack(
        f"another batch is stored under claim {claim.number} of epoch {claim.epoch}: "
        "Redis was restored to an older state while a flush ran, and what it holds may "
        "be counted twice. Compare the counts, then run "
        "`analytics accept-redis-state` to go on"
    )


_ROWS: Mapping[type, tuple[Table, Callable[[Any], tuple[Any, ...]]]] = {
    DailyCounter: (daily, attrgetter("event_type", "day")),
    HourlyCounter: (hourly, attrgetter("event_type", "hour")),
    UserCounter: (user_daily, attrgetter("day", "event_type", "user_id")),
    GapCounter: (event_log_gaps, attrgetter("event_type", "reason", "hour")),
    ValueCounter: (dimension_daily, attrgetter("day", "event_type", "property", "value")),
}
"""The table of a counter, and the primary key of its row."""


def rows_of(counts: Mapping[str, int], keys: Keys) -> tuple[dict[str, Columns], list[Refused]]:
    """The rows by table, and the names that are no counters of ours.

    In the order of the names, which is the same in every flush: two of them that meet in the same
    rows wait for each other, and do not block each other for ever.
    """
    by_table: dict[str, Columns] = {
        table.name: [[] for _ in (*key_columns(table), "count")] for table in COUNTER_TABLES
    }
    add_day, add_type, add_user, add_count = (one.append for one in by_table[user_daily.name])
    of_users = f"{keys.prefix}user:"
    refused: list[Refused] = []
    for name in sorted(counts):
        count = counts[name]
        # Nearly all are of users, with nothing escaped in them: those are read without the parser.
        if name.startswith(of_users) and "%" not in name and name.isprintable():
            user_id, _, rest = name[len(of_users) :].partition(":")
            event_type, _, day = rest.partition(":")
            if user_id and event_type and _is_day(day):
                add_day(day)
                add_type(event_type)
                add_user(user_id)
                add_count(str(count))
                continue
        try:
            counter = keys.parse(name)
        except ValueError as error:
            refused.append(Refused(name, count, str(error)))
        else:
            table, key = _ROWS[type(counter)]
            for column, value in zip(by_table[table.name], (*key(counter), count), strict=True):
                column.append(str(value))
    return by_table, refused


@lru_cache(maxsize=1024)
def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def counter_name(table: Table, row: Sequence[str], keys: Keys) -> str:
    """The name of the counter that made the row, which begins with its primary key."""
    if table is daily:
        return keys.daily(row[0], row[1])
    if table is hourly:
        return keys.hourly(row[0], hour_text(datetime.fromisoformat(row[1])))
    if table is user_daily:
        return keys.user(row[2], row[1], row[0])
    if table is event_log_gaps:
        return keys.gap(row[0], row[1], hour_text(datetime.fromisoformat(row[2])))
    return keys.value(row[1], row[2], row[3], row[0])


def joined_columns(table: Table, columns: Columns) -> dict[str, Any]:
    """The parameters of the table's additive upsert."""
    by_name = dict(zip([*key_columns(table), "count"], columns, strict=True))
    joined = {name: _SEPARATOR.join(column) for name, column in by_name.items()}
    separator = _SEPARATOR
    if any(text.count(separator) != len(columns[0]) - 1 for text in joined.values()):
        separator = f"{_SEPARATOR}{secrets.token_hex(8)}"  # which no name can contain
        joined = {name: separator.join(column) for name, column in by_name.items()}
    return {**joined, "separator": separator}
