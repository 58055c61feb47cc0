"""The Postgres side of the counters: a flush transaction stores each batch once, and the ledger
proves it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Connection, Engine, Table, select, text
from sqlalchemy.exc import DBAPIError

from pipeline import partitions
from pipeline.counters import Claim
from pipeline.errors import RedisWentBack
from pipeline.keys import Counter, DailyCounter, HourlyCounter, Keys, UserCounter, hour_text
from pipeline.tables import (
    COUNTER_TABLES,
    ENTER_BATCHES,
    INSERT_DEAD_COUNTERS,
    PARTITIONED_BY_MONTH,
    additive_upsert,
    daily,
    dimension_daily,
    flush_batches,
    hourly,
    key_columns,
    user_daily,
)

_SESSION = text(
    "SELECT set_config('synchronous_commit', 'on', true), "
    "set_config('idle_in_transaction_session_timeout', '60s', true), "
    "set_config('statement_timeout', '120s', true), "
    "set_config('lock_timeout', :lock_timeout, true)"
)
_UPSERTS = {table.name: additive_upsert(table) for table in COUNTER_TABLES}
# SQLSTATE classes that blame the row: data exception, integrity violation, a limit such as an index
# row's size.
_ROW_REFUSED = ("22", "23", "54")

Rows = dict[tuple[Any, ...], int]
"""Counts by the values of a table's key columns."""


@dataclass(frozen=True)
class Refused:
    """A counter that Postgres will not take."""

    counter: str
    count: int
    reason: str


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
        with self.engine.begin() as connection:
            connection.execute(_SESSION, {"lock_timeout": f"{lock_timeout_s}s"})
            yield FlushTransaction(connection, self)


@dataclass(frozen=True)
class FlushTransaction:
    """An open flush: what `save` writes is stored when the block of `Store.transaction` ends."""

    connection: Connection
    store: Store

    def newest_claim(self) -> tuple[int, int]:
        """The (epoch, number) of the newest claim in the ledger; (0, 0) while it is empty."""
        return newest_claim(self.connection)

    def save(self, claims: Sequence[Claim]) -> int:
        """Add the counts of the batches that the ledger does not hold, and enter them; returns how
        many counters.

        A repeat does nothing. Raises `RedisWentBack` when another batch has the number of one of
        these. A counter that Postgres refuses becomes a dead letter, in the same transaction.
        """
        ordered = sorted(claims, key=lambda claim: claim.batch_id)
        new = self._enter(ordered)
        counts: dict[str, int] = {}
        for claim in ordered:
            if claim.batch_id in new:
                for name, count in claim.counts.items():
                    counts[name] = counts.get(name, 0) + count
        by_table, refused = _rows(counts, self.store.keys)
        for table in PARTITIONED_BY_MONTH:
            days: set[date] = {key[0] for key in by_table[table.name]}
            partitions.ensure_months(self.store.engine, table, days)
        for table in COUNTER_TABLES:
            refused += self._add(table, sorted(by_table[table.name].items()))
        if refused:
            self._bury(refused)
        return len(counts) - len(refused)

    def _enter(self, claims: Sequence[Claim]) -> set[str]:
        """Enter the batches in the ledger; returns the ids of those that were new.

        A conflict with either unique key is no error, since two flushes may enter one batch at the
        same moment. What is then not there under its own id has the number of another.
        """
        columns: dict[str, list[Any]] = {
            "batch_ids": [claim.batch_id for claim in claims],
            "epochs": [claim.epoch for claim in claims],
            "claims": [claim.number for claim in claims],
            "rows": [len(claim.counts) for claim in claims],
        }
        new = set(self.connection.execute(ENTER_BATCHES, columns).scalars())
        ledger = select(flush_batches.c.batch_id).where(
            flush_batches.c.batch_id.in_(columns["batch_ids"])
        )
        entered = set(self.connection.execute(ledger).scalars())
        for claim in claims:
            if claim.batch_id not in entered:
                # Redis has given one number to two claims: it lost the first one and went on.
                raise RedisWentBack(
                    f"another batch is stored under claim {claim.number} of epoch {claim.epoch}: "
                    "Redis was restored to an older state while a flush ran, and what it holds may "
                    "be counted twice. Compare the counts, then run "
                    "`analytics accept-redis-state` to go on"
                )
        return new

    def _add(self, table: Table, rows: Sequence[tuple[tuple[Any, ...], int]]) -> list[Refused]:
        """Upsert the rows; where Postgres refuses some, halve until each of those stands alone."""
        if not rows:
            return []
        names = key_columns(table)
        columns: dict[str, list[Any]] = {
            name: [key[at] for key, _ in rows] for at, name in enumerate(names)
        }
        columns["count"] = [count for _, count in rows]
        try:
            with self.connection.begin_nested():
                self.connection.execute(_UPSERTS[table.name], columns)
        except DBAPIError as error:
            sqlstate = getattr(error.orig, "sqlstate", None) or ""
            if sqlstate[:2] not in _ROW_REFUSED:
                raise
            if len(rows) == 1:
                key, count = rows[0]
                return [Refused(_counter_name(table, key, self.store.keys), count, str(error.orig))]
            middle = len(rows) // 2
            return self._add(table, rows[:middle]) + self._add(table, rows[middle:])
        return []

    def _bury(self, refused: Sequence[Refused]) -> None:
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


def _rows(counts: dict[str, int], keys: Keys) -> tuple[dict[str, Rows], list[Refused]]:
    by_table: dict[str, Rows] = {table.name: {} for table in COUNTER_TABLES}
    refused: list[Refused] = []
    for name, count in counts.items():
        try:
            table, key = _row(keys.parse(name))
        except ValueError as error:
            refused.append(Refused(name, count, str(error)))
        else:
            by_table[table.name][key] = count
    return by_table, refused


def _row(counter: Counter) -> tuple[Table, tuple[Any, ...]]:
    if isinstance(counter, DailyCounter):
        return daily, (counter.event_type, counter.day)
    if isinstance(counter, HourlyCounter):
        return hourly, (counter.event_type, counter.hour)
    if isinstance(counter, UserCounter):
        return user_daily, (counter.day, counter.event_type, counter.user_id)
    return dimension_daily, (counter.day, counter.event_type, counter.property, counter.value)


def _counter_name(table: Table, key: tuple[Any, ...], keys: Keys) -> str:
    if table is daily:
        return keys.daily(key[0], f"{key[1]}")
    if table is hourly:
        return keys.hourly(key[0], hour_text(key[1]))
    if table is user_daily:
        return keys.user(key[2], key[1], f"{key[0]}")
    return keys.value(key[1], key[2], key[3], f"{key[0]}")
