"""The Postgres side of the counters: a flush transaction stores each batch once, and the ledger
proves it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, func, select
from sqlalchemy.exc import DBAPIError

from pipeline.errors import RedisWentBack
from pipeline.flushing.claims import Claim
from pipeline.flushing.rows import Columns, Refused, counter_name, joined_columns, rows_of
from pipeline.postgres import partitions
from pipeline.postgres.locks import begin_transfer
from pipeline.postgres.refusals import blames_row
from pipeline.postgres.tables import (
    COUNTER_TABLES,
    ENTER_BATCHES,
    INSERT_DEAD_COUNTERS,
    PARTITIONED_BY_MONTH,
    additive_upsert,
    flush_batches,
)
from pipeline.redis.keys import Keys

UPSERTS = {table.name: additive_upsert(table) for table in COUNTER_TABLES}
_FORGOTTEN_AT_ONCE = 1_000


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

    def forget_batches(
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
            for first in range(0, len(ids), _FORGOTTEN_AT_ONCE):
                page = ids[first : first + _FORGOTTEN_AT_ONCE]
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

    def save(
        self, claims: Sequence[Claim], turn: AbstractContextManager[object] | None = None
    ) -> int:
        """Add the counts of the batches that the ledger does not hold, and enter them; returns how
        many counters. Writes counts during its `turn` only.

        A repeat does nothing. Raises `RedisWentBack` when another batch has the number of one of
        these. A counter that Postgres refuses becomes a dead letter, in the same transaction.
        """
        ordered = sorted(claims, key=lambda claim: claim.batch_id)
        new = self._enter(ordered)
        counts = Counter[str]()
        for claim in ordered:
            if claim.batch_id in new:
                counts.update(claim.counts)  # adds
        by_table, refused = rows_of(counts, self.store.keys)
        for table in PARTITIONED_BY_MONTH:
            days = {date.fromisoformat(day) for day in set(by_table[table.name][0])}
            partitions.ensure_months(self.store.engine, table, days)
        with turn or nullcontext():
            for table in COUNTER_TABLES:
                refused += self._add(table, by_table[table.name])
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

    def _add(self, table: Table, columns: Columns) -> list[Refused]:
        """Upsert the rows; where Postgres refuses some, halve until each of those stands alone."""
        rows = len(columns[0])
        if not rows:
            return []
        joined = joined_columns(table, columns)
        try:
            with self.connection.begin_nested():
                self.connection.execute(UPSERTS[table.name], joined)
        except DBAPIError as error:
            if not blames_row(error):
                raise
            if rows == 1:
                row = [column[0] for column in columns]
                name = counter_name(table, row, self.store.keys)
                return [Refused(name, int(row[-1]), str(error.orig))]
            halves = slice(None, rows // 2), slice(rows // 2, None)
            first, second = ([column[half] for column in columns] for half in halves)
            return self._add(table, first) + self._add(table, second)
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
