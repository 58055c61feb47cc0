"""The Postgres side of the counters: a flush transaction stores each batch once, and the ledger
proves it.

Rows go to Postgres as text, in the order of their keys: that is the same in every flush, so that
two which meet in the same rows wait for each other and do not block each other for ever. And an
index that is added to in its order grows in half the time.
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
from typing import NamedTuple

from sqlalchemy import Connection, Engine, Table, TextClause, select
from sqlalchemy.exc import DBAPIError

from pipeline.days import today
from pipeline.flushing.claims import Claim, Fields
from pipeline.flushing.counter_rows import (
    ROWS,
    Counts,
    Refused,
    add_unusual,
    counter_name,
    decode_each,
)
from pipeline.flushing.ledger import explain_number_given_twice, newest_claim
from pipeline.postgres import partitions
from pipeline.postgres.fitness import check_tables
from pipeline.postgres.locks import begin_transfer
from pipeline.postgres.refusals import blames_row
from pipeline.postgres.sealing.seals import unseal
from pipeline.postgres.tables import (
    BETWEEN_GROUPS,
    BETWEEN_ROWS,
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

UPSERTS = {table.name: additive_upsert(table) for table in COUNTER_TABLES}
STAGINGS = {table: Staging(table) for table in PARTITIONED_BY_MONTH}
SORTED_IN_MEMORY = 250_000
"""Rows of a batch that Postgres need not sort, which takes it a sixth longer."""
_STAGED_AT_ONCE = 20_000
_STREAMED = {"yield_per": _STAGED_AT_ONCE}


class Group(NamedTuple):
    """Rows of a table that have all of the primary key in common but its last column: the users of
    an event type and day. All values are text."""

    head: Sequence[str]
    """The columns of the primary key but the last, in their order."""
    lasts: Sequence[str]
    counts: Sequence[str]
    """As many as `lasts`."""


Groups = Sequence[Group]
"""Rows of a table."""
Rows = Sequence[tuple[Table, Groups]]
"""By table, which may come twice."""
_GROUPS, _ROWS = "\x1e", "\x1f"
_SEPARATORS = re.compile(f"[{_GROUPS}{_ROWS}]")
_BETWEEN = b" "
"""Between fields that are decoded together: no field has a space, and it can be printed."""
_LONGEST_COUNT = 20
_QUARTERS = {f"{hour:02}:{minute:02}" for hour in range(24) for minute in (0, 15, 30, 45)}
_NOT_PLAIN = re.compile("[%{}]")


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
        for table, groups in (one for one in rows if one[0] in STAGINGS):
            for one in groups:
                self.days.setdefault(table, Counter())[one.head[0]] += len(one.lasts)
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
                    for one in groups:
                        self.days.setdefault(table, Counter())[one.head[0]] += len(one.lasts)
                    found += self._add(table, groups, STAGINGS[table].insert)
                    continue
                for head, lasts, counts in groups:
                    few[(table, *head)].update(zip(lasts, counts, strict=True))
            refused |= {one.counter: one for one in found}  # a field may come twice
        return _sort_rows(few), list(refused.values())

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
                    found: Counts = defaultdict(dict)
                    for *head, last, count in rows:
                        found[(table, *head)][last] = count
                    refused += self._add(*_sort_rows(found)[0], UPSERTS[table.name])
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


def parameters_of(table: Table, groups: Groups) -> dict[str, str]:
    """The parameters of the table's additive upsert."""
    *heads, last = key_columns(table)
    columns = {name: [one.head[at] for one in groups] for at, name in enumerate(heads)}
    of_groups, of_rows = _GROUPS, _ROWS
    names = (*columns.values(), *(one.lasts for one in groups))
    if any(_SEPARATORS.search("".join(some)) for some in names):
        token = secrets.token_hex(8)  # which no name can contain
        of_groups, of_rows = of_groups + token, of_rows + token
    joined = {
        last: [of_rows.join(one.lasts) for one in groups],
        "count": [of_rows.join(one.counts) for one in groups],
    }
    return {
        **{name: of_groups.join(column) for name, column in (columns | joined).items()},
        BETWEEN_GROUPS: of_groups,
        BETWEEN_ROWS: of_rows,
    }


def halve(groups: Groups) -> tuple[Groups, Groups]:
    """Two parts of rows of which there are at least two."""
    if len(groups) > 1:
        return groups[: len(groups) // 2], groups[len(groups) // 2 :]
    [(head, lasts, counts)] = groups
    half = len(lasts) // 2
    first, second = (lasts[:half], counts[:half]), (lasts[half:], counts[half:])
    return [Group(head, *first)], [Group(head, *second)]


def rows_of(counts: Mapping[str, int], keys: Keys) -> tuple[Rows, list[Refused]]:
    """The rows of counters given by name, and the names that are no counters of ours."""
    found: Counts = defaultdict(dict)
    refused: list[Refused] = []
    for name, count in counts.items():
        try:
            counter = keys.parse(name)
        except ValueError as error:
            refused.append(Refused(name, str(count), str(error)))
        else:
            table, key = ROWS[type(counter)]
            *head, last = map(str, key(counter))
            of_head = found[(table, *head)]  # two names may be ways to write one
            of_head[last] = str(int(of_head.get(last, 0)) + count)
    return _sort_rows(found), refused


def rows_of_fields(pages: Iterable[Fields], keys: Keys) -> tuple[Rows, list[Refused]]:
    """The rows of fields of buckets, no row twice however often its field comes; and the fields
    that are no counters, or whose count is no number. Takes some 200 bytes for a field."""
    found: Counts = defaultdict(dict)
    refused: dict[str, Refused] = {}
    for page in pages:
        text = _BETWEEN.join(page).decode(errors="surrogateescape")
        numbers = _BETWEEN.join(page.values()).decode(errors="surrogateescape")
        names, counts = text.split(" "), numbers.split(" ")
        # Most names have nothing escaped in them, and nothing that is not allowed.
        is_plain = text.isprintable() and numbers.isascii() and not _NOT_PLAIN.search(text)
        if not len(names) == len(counts) == len(page):
            is_plain, names, counts = False, *decode_each(page)
        for name, count in zip(names, counts, strict=True):
            if is_plain and count.isdecimal() and len(count) < _LONGEST_COUNT:
                match name.split(":"):
                    case [user_id, event_type, day] if _is_day(day):
                        found[user_daily, day, event_type][user_id] = count
                        continue
                    case [event_type, property_name, value, day] if _is_day(day):
                        found[dimension_daily, day, event_type, property_name][value] = count
                        continue
                    case ["quarter", event_type, *at] if moment := _read_quarter(*at):
                        found[quarter_hourly, event_type][moment] = count
                        continue
            add_unusual(found, refused, keys, (name, count))
    return _sort_rows(found), list(refused.values())


@lru_cache(maxsize=1024)
def _read_quarter(day: str, *at: str) -> str | None:
    """The beginning of a quarter hour, as its row has it; None for anything else."""
    is_one = _is_day(day) and ":".join(at) in _QUARTERS
    return f"{day} {':'.join(at)}:00+00:00" if is_one else None


def _sort_rows(counts: Counts) -> Rows:
    """The rows by table, in the order of their keys."""
    rows: dict[Table, list[Group]] = {}
    for (table, *head), found in sorted(counts.items(), key=lambda one: one[0][1:]):
        lasts = sorted(found)
        of_lasts = list(map(found.__getitem__, lasts))
        rows.setdefault(table, []).append(Group(head, lasts, of_lasts))
    return list(rows.items())


@lru_cache(maxsize=1024)
def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
