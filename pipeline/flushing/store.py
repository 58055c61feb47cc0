"""The Postgres side of the counters: a flush transaction stores each batch once, and the ledger
proves it.

Rows go to Postgres as columns of text, in the order of their keys: that is the same in every flush,
so that two which meet in the same rows wait for each other and do not block each other for ever.
And an index that is added to in its order grows in half the time.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Engine, Table, TextClause, select
from sqlalchemy.exc import DBAPIError

from pipeline.days import today
from pipeline.flushing.claims import Claim, Fields
from pipeline.flushing.counter_rows import ROWS, counter_name
from pipeline.flushing.ledger import explain_number_given_twice, newest_claim
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
    dimension_daily,
    flush_batches,
    key_columns,
    quarter_hourly,
    user_daily,
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

Columns = Sequence[Sequence[str]]
"""Rows of a table: the columns of its primary key in their order, then the counts."""

Rows = Sequence[tuple[Table, Columns]]
"""By table, which may come twice."""
Groups = defaultdict[tuple[Any, ...], dict[str, str]]
"""Counts by the last column of a table's key, by the table and the columns before it."""
Field = tuple[str, str]
"""The name of a field, and its count."""

_BETWEEN = b" "
"""Between fields that are decoded together: no field has a space, and it can be printed."""
_LONGEST_COUNT = 20
_COUNT = re.compile("-?[0-9]{1,19}")
_QUARTERS = {f"{hour:02}:{minute:02}" for hour in range(24) for minute in (0, 15, 30, 45)}
_NOT_PLAIN = re.compile("[%{}]")


@dataclass(frozen=True)
class Refused:
    """A counter that cannot be stored."""

    counter: str
    count: str
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
        for table, columns in (one for one in rows if one[0] in STAGINGS):
            self.days.setdefault(table, Counter()).update(columns[0])
        if not as_is and partitions.misses_months(self.connection, self.days, today()):
            return None
        if not self._enter(claim):
            return 0
        with turn or nullcontext():
            for table, columns in sorted(rows, key=lambda one: COUNTER_TABLES.index(one[0])):
                refused += self._add(table, columns, UPSERTS[table.name])
            refused += self._add_staged() if is_staged else []
        self._unseal_closed_days()
        self._bury(refused)
        return claim.size - len(refused)

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
        few: Groups = defaultdict(dict)
        for some in _in_portions(pages):
            rows, found = rows_of_fields(some, self.keys)
            for table, columns in rows:
                if table not in STAGINGS:
                    for *head, last, n in zip(*columns, strict=True):
                        few[(table, *head)][last] = n
                    continue
                self.days.setdefault(table, Counter()).update(columns[0])
                found += self._add(table, columns, STAGINGS[table].insert)
            refused |= {one.counter: one for one in found}  # a field may come twice
        return _sorted_rows(few), list(refused.values())

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


def joined_columns(table: Table, columns: Columns) -> dict[str, Any]:
    """The parameters of the table's additive upsert."""
    by_name = dict(zip([*key_columns(table), "count"], columns, strict=True))
    joined = {name: _SEPARATOR.join(column) for name, column in by_name.items()}
    separator = _SEPARATOR
    if any(text.count(separator) != len(columns[0]) - 1 for text in joined.values()):
        separator = f"{_SEPARATOR}{secrets.token_hex(8)}"  # which no name can contain
        joined = {name: separator.join(column) for name, column in by_name.items()}
    return {**joined, "separator": separator}


def rows_of(counts: Mapping[str, int], keys: Keys) -> tuple[Rows, list[Refused]]:
    """The rows of counters given by name, and the names that are no counters of ours."""
    rows: defaultdict[Table, list[tuple[str, ...]]] = defaultdict(list)
    refused: list[Refused] = []
    for name, count in counts.items():
        try:
            counter = keys.parse(name)
        except ValueError as error:
            refused.append(Refused(name, str(count), str(error)))
        else:
            table, key = ROWS[type(counter)]
            rows[table].append((*map(str, key(counter)), str(count)))
    return [
        (table, list(zip(*sorted(found), strict=True))) for table, found in rows.items()
    ], refused


def rows_of_fields(pages: Iterable[Fields], keys: Keys) -> tuple[Rows, list[Refused]]:
    """The rows of fields of buckets, no row twice however often its field comes; and the fields
    that are no counters, or whose count is no number. Takes some 200 bytes for a field."""
    groups: Groups = defaultdict(dict)
    refused: dict[str, Refused] = {}
    for page in pages:
        text = _BETWEEN.join(page).decode(errors="surrogateescape")
        numbers = _BETWEEN.join(page.values()).decode(errors="surrogateescape")
        names, counts = text.split(" "), numbers.split(" ")
        # Most names have nothing escaped in them, and nothing that is not allowed.
        is_plain = text.isprintable() and numbers.isascii() and not _NOT_PLAIN.search(text)
        if not len(names) == len(counts) == len(page):
            is_plain, names, counts = False, *_decode_each(page)
        for name, count in zip(names, counts, strict=True):
            if is_plain and count.isdecimal() and len(count) < _LONGEST_COUNT:
                match name.split(":"):
                    case [user_id, event_type, day] if _is_day(day):
                        groups[user_daily, day, event_type][user_id] = count
                        continue
                    case [event_type, property_name, value, day] if _is_day(day):
                        groups[dimension_daily, day, event_type, property_name][value] = count
                        continue
                    case ["quarter", event_type, *at] if moment := _read_quarter(*at):
                        groups[quarter_hourly, event_type][moment] = count
                        continue
            _add_unusual(groups, refused, keys, (name, count))
    return _sorted_rows(groups), list(refused.values())


@lru_cache(maxsize=1024)
def _read_quarter(day: str, *at: str) -> str | None:
    """The beginning of a quarter hour, as its row has it; None for anything else."""
    is_one = _is_day(day) and ":".join(at) in _QUARTERS
    return f"{day} {':'.join(at)}:00+00:00" if is_one else None


def _add_unusual(groups: Groups, refused: dict[str, Refused], keys: Keys, one: Field) -> None:
    """Add a field that has something escaped in it, or is none of ours. One that is written in
    another way than ours must not take the place of ours in the row of both."""
    name, count = keys.name_of(one[0]), one[1]
    try:
        counter = keys.parse(name)
    except ValueError as error:
        refused[name] = Refused(name, count, str(error))
        return
    table, key = ROWS[type(counter)]
    *head, last = map(str, key(counter))
    written = counter_name(table, [*head, last], keys)
    if written != name:
        refused[name] = Refused(name, count, f"the name of this counter is written {written!r}")
    elif not _COUNT.fullmatch(count):
        refused[name] = Refused(name, count, "the counter is not a whole number")
    else:
        groups[(table, *head)][last] = count


def _decode_each(page: Fields) -> tuple[list[str], list[str]]:
    """Names and counts of a page in which some have a space, as none of ours has."""
    names, counts = list(page), list(page.values())
    every = [text.decode(errors="surrogateescape") for text in names + counts]
    return every[: len(page)], every[len(page) :]


def _sorted_rows(groups: Groups) -> Rows:
    rows: dict[Table, list[list[str]]] = {}
    for (table, *head), found in sorted(groups.items(), key=lambda one: one[0][1:]):
        columns = rows.setdefault(table, [[] for _ in (*head, "last", "count")])
        names = sorted(found)
        for column, text in zip(columns, head, strict=False):
            column += [text] * len(names)
        columns[-2] += names
        columns[-1] += map(found.__getitem__, names)
    return list(rows.items())


@lru_cache(maxsize=1024)
def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def cut(columns: Columns, rows: int) -> Iterable[Columns]:
    """The rows in portions of so many."""
    for first in range(0, len(columns[0]), rows):
        yield [column[first : first + rows] for column in columns]
