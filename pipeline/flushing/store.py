"""The Postgres side of the counters: a flush transaction stores each batch once, and the ledger
proves it.

Rows go to Postgres as text, in the order of their keys: that is the same in every flush, so that
two which meet in the same rows wait for each other and do not block each other for ever. And an
index that is added to in its order grows in half the time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, Table, TextClause, select
from sqlalchemy.exc import DBAPIError

from pipeline.days import today
from pipeline.flushing.claims import Claim, Fields
from pipeline.flushing.counter_rows import counter_name
from pipeline.flushing.ledger import explain_number_given_twice, newest_claim
from pipeline.flushing.rows import (
    Counts,
    Group,
    Groups,
    Refused,
    Rows,
    group_rows,
    halve,
    parameters_of,
    rows_of,
    rows_of_fields,
    sort_rows,
)
from pipeline.postgres import partitions
from pipeline.postgres.fitness import check_tables
from pipeline.postgres.locks import begin_transfer
from pipeline.postgres.refusals import blames_row
from pipeline.postgres.sealing.seals import unseal
from pipeline.postgres.tables import (
    COUNTER_TABLES,
    ENTER_BATCH,
    INSERT_DEAD_COUNTERS,
    MAY_STAGE,
    PARTITIONED_BY_MONTH,
    Staging,
    additive_upsert,
    flush_batches,
    user_daily,
)
from pipeline.redis.keys import Keys

Turn = AbstractContextManager[object]

UPSERTS = {table.name: additive_upsert(table) for table in COUNTER_TABLES}
STAGINGS = {table: Staging(table) for table in PARTITIONED_BY_MONTH}
SORTED_IN_MEMORY = 250_000
"""Rows of a batch that Postgres need not sort, which takes it a sixth longer."""
_STAGED_AT_ONCE = 20_000
_STREAMED = {"yield_per": _STAGED_AT_ONCE}


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
        returns how many counters. Writes counts during its `turn` only, and nothing when the ledger
        holds the batch. Raises `RedisWentBack` when another batch has its number. A refused counter
        becomes a dead letter, in the same transaction. Writes nothing and returns None when
        partitions are to be made first, unless stored `as_is`."""
        rows, refused = rows_of(claim.named, self.keys)
        is_staged = claim.size > SORTED_IN_MEMORY and self._may_stage()
        of_fields = self._stage(pages) if is_staged else rows_of_fields(pages, self.keys)
        rows, refused = [*rows, *of_fields[0]], [*refused, *of_fields[1]]
        for table, groups in rows:
            self._note_days(table, groups)
        if not as_is and partitions.misses_months(self.connection, self.days, today()):
            return None
        if not self._enter(claim):
            return 0
        with turn or nullcontext():
            for table, groups in sorted(rows, key=lambda one: COUNTER_TABLES.index(one[0])):
                refused += self._add(table, groups, UPSERTS[table.name])
            refused += self._add_staged() if is_staged else []
        self._unseal_closed_days()
        self._bury(refused)
        return claim.size - len(refused)

    def _note_days(self, table: Table, groups: Groups) -> None:
        if table in STAGINGS:  # the day comes first in their keys
            days = self.days.setdefault(table, Counter())
            for one in groups:
                days[one.head[0]] += len(one.lasts)

    def _unseal_closed_days(self) -> None:
        days, now = self.days.get(user_daily, ()), f"{today()}"
        unseal(self.connection, "users", [day for day in days if day < now])

    def _may_stage(self) -> bool:
        return bool(self.connection.execute(MAY_STAGE).scalar_one())

    def _stage(self, pages: Iterable[Fields]) -> tuple[Rows, list[Refused]]:
        """Put the rows of the fields into temporary tables, bit by bit; returns the few of other
        tables, and those refused."""
        for staging in STAGINGS.values():
            self.connection.execute(staging.create)
        refused: dict[str, Refused] = {}
        few: Counts = defaultdict(dict)
        for some in _in_portions(pages):
            rows, found = rows_of_fields(some, self.keys)
            for table, groups in rows:
                if table in STAGINGS:
                    self._note_days(table, groups)
                    found += self._add(table, groups, STAGINGS[table].insert)
                    continue
                for head, lasts, counts in groups:
                    few[(table, *head)].update(zip(lasts, counts, strict=True))
            refused |= {one.counter: one for one in found}  # a field may come twice
        return sort_rows(few), list(refused.values())

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
                    refused += self._add(table, group_rows(rows), UPSERTS[table.name])
        return refused

    def _enter(self, claim: Claim) -> bool:
        """Enter the batch in the ledger; returns whether it was new. A conflict with either unique
        key is no error, since two flushes may enter one batch at the same moment; what is then not
        there under its own id has the number of another."""
        batch = {"epoch": claim.epoch, "claim": claim.number, "rows": claim.size}
        if self.connection.execute(ENTER_BATCH, {"batch_id": claim.batch_id, **batch}).rowcount:
            return True
        stored = select(flush_batches.c.batch_id).where(flush_batches.c.batch_id == claim.batch_id)
        if self.connection.execute(stored).first() is None:
            raise explain_number_given_twice(claim)
        return False

    def _add(self, table: Table, groups: Groups, statement: TextClause) -> list[Refused]:
        """Insert or upsert the rows; returns those that Postgres refuses."""
        try:
            with self.connection.begin_nested():
                self.connection.execute(statement, parameters_of(table, groups))
        except DBAPIError as error:
            if not blames_row(error):
                raise
            return self._find_refused(table, groups, statement, error)
        return []

    def _find_refused(
        self, table: Table, groups: Groups, statement: TextClause, error: DBAPIError
    ) -> list[Refused]:
        """Halve the rows until each of those that Postgres refuses stands alone."""
        match groups:
            case [Group(head, [last], [count])]:
                name = counter_name(table, [*head, last], self.keys)
                return [Refused(name, count, str(error.orig))]
        first, second = halve(groups)
        return self._add(table, first, statement) + self._add(table, second, statement)

    def _bury(self, refused: Sequence[Refused]) -> None:
        if not refused:
            return
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
