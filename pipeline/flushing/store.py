"""The Postgres side of the counters: a flush transaction stores each batch once, and the ledger
proves it."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table, TextClause, delete, func, select
from sqlalchemy.exc import DBAPIError

from pipeline.days import today
from pipeline.errors import RedisWentBack
from pipeline.flushing.claims import Claim, Fields
from pipeline.flushing.rows import (
    Columns,
    Refused,
    Rows,
    counter_name,
    cut,
    rows_of,
    rows_of_fields,
)
from pipeline.postgres import partitions
from pipeline.postgres.fitness import check_tables
from pipeline.postgres.locks import begin_transfer
from pipeline.postgres.refusals import blames_row
from pipeline.postgres.tables import (
    COUNTER_TABLES,
    ENTER_BATCH,
    INSERT_DEAD_COUNTERS,
    MAY_STAGE,
    PARTITIONED_BY_MONTH,
    Staging,
    additive_upsert,
    flush_batches,
    key_columns,
)
from pipeline.redis.keys import Keys

Turn = AbstractContextManager[object]

_SEPARATOR = "\x1f"

UPSERTS = {table.name: additive_upsert(table) for table in COUNTER_TABLES}
STAGINGS = {table: Staging(table) for table in PARTITIONED_BY_MONTH}
SORTED_IN_MEMORY = 150_000
"""Rows of a batch that Postgres need not sort, which takes it a sixth longer."""
_STAGED_AT_ONCE = 20_000
_STREAMED = {"yield_per": _STAGED_AT_ONCE}
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
            yield FlushTransaction(connection, self.keys)

    def make_partitions(self, days: Mapping[Table, Mapping[str, int]]) -> None:
        """Make the partitions that rows of these days deserve, or some of them; rows of the rest go
        to the default partition. To be called with no transaction open: a flush that held one
        connection and waited for a second would wait for ever where there are as many flushes as
        connections.
        """
        for table, of_table in days.items():
            partitions.ensure_months(self.engine, table, of_table, today())

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


@dataclass
class FlushTransaction:
    """An open flush: what `save` writes is stored when the block of `Store.transaction` ends."""

    connection: Connection
    keys: Keys
    days: dict[Table, Counter[str]] = field(default_factory=dict)
    """Rows by day of the batch read last, by table: what its partitions are made by."""

    def newest_claim(self) -> tuple[int, int]:
        """The (epoch, number) of the newest claim in the ledger; (0, 0) while it is empty."""
        return newest_claim(self.connection)

    def save(
        self, claim: Claim, pages: Iterable[Fields], turn: Turn | None = None, *, as_is: bool = True
    ) -> int | None:
        """Enter the batch in the ledger and add its counts, those of its buckets from these pages;
        returns how many counters. Writes counts during its `turn` only.

        Does nothing when the ledger holds the batch. Raises `RedisWentBack` when another batch has
        its number. A counter that Postgres refuses becomes a dead letter, in the same transaction.
        Writes nothing and returns None when partitions are to be made first, unless stored `as_is`.
        """
        rows, refused = rows_of(claim.named, self.keys)
        is_staged = claim.size > SORTED_IN_MEMORY and self._may_stage()
        of_fields = self._stage(pages) if is_staged else rows_of_fields(pages, self.keys)
        rows, refused = [*rows, *of_fields[0]], [*refused, *of_fields[1]]
        self.days |= {table: Counter(columns[0]) for table, columns in rows if table in STAGINGS}
        if not as_is and partitions.misses_months(self.connection, self.days, today()):
            return None
        if not self._enter(claim):
            return 0
        with turn or nullcontext():
            for table, columns in sorted(rows, key=lambda one: COUNTER_TABLES.index(one[0])):
                refused += self._add(table, columns, UPSERTS[table.name])
            if is_staged:
                refused += self._add_staged()
        if refused:
            self._bury(refused)
        return claim.size - len(refused)

    def _may_stage(self) -> bool:
        return bool(self.connection.execute(MAY_STAGE).scalar_one())

    def _stage(self, pages: Iterable[Fields]) -> tuple[Rows, list[Refused]]:
        """Put the rows of the fields into temporary tables, bit by bit; returns those refused."""
        for staging in STAGINGS.values():
            self.connection.execute(staging.create)
        refused: dict[str, Refused] = {}
        for some in _in_portions(pages):
            rows, found = rows_of_fields(some, self.keys)
            for table, columns in rows:
                self.days.setdefault(table, Counter()).update(columns[0])
                found += self._add(table, columns, STAGINGS[table].insert)
            refused |= {one.counter: one for one in found}  # a field may come twice
        return [], list(refused.values())

    def _add_staged(self) -> list[Refused]:
        """Upsert the rows of the temporary tables; returns those that Postgres refuses."""
        refused: list[Refused] = []
        for table, staging in STAGINGS.items():
            try:
                with self.connection.begin_nested():
                    self.connection.execute(staging.sort_in_memory)
                    self.connection.execute(staging.upsert)
            except DBAPIError as error:
                if not blames_row(error):
                    raise
                streamed = self.connection.execute(staging.read, execution_options=_STREAMED)
                for rows in streamed.partitions(_STAGED_AT_ONCE):
                    columns = [list(column) for column in zip(*rows, strict=True)]
                    refused += self._add(table, columns, UPSERTS[table.name])
        return refused

    def _enter(self, claim: Claim) -> bool:
        """Enter the batch in the ledger; returns whether it was new.

        A conflict with either unique key is no error, since two flushes may enter one batch at the
        same moment. What is then not there under its own id has the number of another.
        """
        batch = {"epoch": claim.epoch, "claim": claim.number, "rows": claim.size}
        if self.connection.execute(ENTER_BATCH, {"batch_id": claim.batch_id, **batch}).rowcount:
            return True
        stored = select(flush_batches.c.batch_id).where(flush_batches.c.batch_id == claim.batch_id)
        if self.connection.execute(stored).first() is None:
            raise _number_given_twice(claim)
        return False

    def _add(self, table: Table, columns: Columns, statement: TextClause) -> list[Refused]:
        """Insert or upsert the rows; returns those that Postgres refuses."""
        try:
            with self.connection.begin_nested():
                self.connection.execute(statement, joined_columns(table, columns))
        except DBAPIError as error:
            if not blames_row(error):
                raise
            return self._find_refused(table, columns, statement, error)
        return []

    def _find_refused(
        self, table: Table, columns: Columns, statement: TextClause, error: DBAPIError
    ) -> list[Refused]:
        """Halve the rows until each of those that Postgres refuses stands alone."""
        rows = len(columns[0])
        if rows == 1:
            row = [column[0] for column in columns]
            return [Refused(counter_name(table, row, self.keys), row[-1], str(error.orig))]
        first, second = cut(columns, (rows + 1) // 2)
        return self._add(table, first, statement) + self._add(table, second, statement)

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


def _in_portions(pages: Iterable[Fields]) -> Iterator[list[Fields]]:
    some, fields = list[Fields](), 0
    for page in pages:
        some.append(page)
        fields += len(page)
        if fields >= _STAGED_AT_ONCE:
            yield some
            some, fields = [], 0
    yield some


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


def joined_columns(table: Table, columns: Columns) -> dict[str, Any]:
    """The parameters of the table's additive upsert."""
    by_name = dict(zip([*key_columns(table), "count"], columns, strict=True))
    joined = {name: _SEPARATOR.join(column) for name, column in by_name.items()}
    separator = _SEPARATOR
    if any(text.count(separator) != len(columns[0]) - 1 for text in joined.values()):
        separator = f"{_SEPARATOR}{secrets.token_hex(8)}"  # which no name can contain
        joined = {name: separator.join(column) for name, column in by_name.items()}
    return {**joined, "separator": separator}
