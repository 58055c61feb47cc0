"""The protocol of an exact read: each count is found in exactly one place, whatever a flush does.

1. Redis says in one script what it holds of the counters: live, and in the batches that are open.
2. Postgres says in one statement what it has stored, and which batches its ledger holds.
3. What a batch held is added if the ledger did not have it.
4. A batch that was claimed after 1 and stored before 2 is in both answers: live then, stored now.
   The ledger shows it, since its claim is newer than the newest that 1 saw, and the read begins
   again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import redis
from sqlalchemy import CompoundSelect, Engine, Select, bindparam, null, select, tuple_, union_all
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from pipeline.postgres.engine import Reader
from pipeline.postgres.names import MARK
from pipeline.postgres.tables import flush_batches
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script

_READ = Script("pipeline.reading.read")
_LONGEST_COUNT = 20  # characters of the smallest number that INCRBY can make
_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]


def with_ledger(rows: Select[Any]) -> str:
    """In one statement, and so of one instant: the rows (key columns, then the count), and the
    batches that are stored, from the claim after a given one on.

    A row is (keys …, count, NULL, NULL), a batch (NULL …, epoch, claim, id). Compiled once for each
    read: SQLAlchemy takes longer to put such a statement together than Postgres to answer it.
    """
    keys = len(rows.selected_columns) - 1
    batch = flush_batches.c
    batches = select(*[null()] * keys, batch.epoch, batch.claim, batch.batch_id).where(
        tuple_(batch.epoch, batch.claim) > tuple_(bindparam("epoch"), bindparam("claim"))
    )
    both: CompoundSelect[Any] = union_all(rows.add_columns(null(), null()), batches)
    marked = both.compile(
        dialect=_DIALECT, schema_translate_map={None: MARK}, render_schema_translate=True
    )
    return str(marked)


Counts = Counter[str]
"""By the name of their counter in Redis."""


@dataclass(frozen=True)
class Unstored:
    """What Redis held of some counters: their live counts, and per batch that was open then and had
    any of them, as (position, count); a position may come twice.

    Claims are (epoch, number): the newest there was, and the one before the first of these batches.
    """

    newest_claim: tuple[int, int]
    before_claimed: tuple[int, int]
    live: list[int]
    claimed: dict[str, list[tuple[int, int]]]
    entries: list[list[Any]]
    """Of each stream of the event log that was asked for, what Redis says of its entries."""


class UnstoredCounts:
    """What one Redis holds that Postgres may not have. Without state but the client; threads may
    share it."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def read(self, counters: Sequence[str], after: Mapping[str, str] | None = None) -> Unstored:
        """What Redis holds of these counters, at one moment; and of these streams of the event log,
        the entries after an id."""
        buckets: dict[int, tuple[list[int], list[str]]] = {}
        for position, name in enumerate(counters, start=1):
            if place := self.keys.field_of(name):
                positions, fields = buckets.setdefault(place[0], ([], []))
                positions.append(position)
                fields.append(place[1])
        streams = after or {}
        question = (
            counters,
            [(bucket, *found) for bucket, found in buckets.items()],
            list(streams.values()),
        )
        epoch, claims, found, open_, entries = _READ.run(
            self.client,
            keys=[self.keys.batches, self.keys.totals, *streams],
            args=[self.keys.live, self.keys.inflight, msgspec.msgpack.encode(question)],
        )
        newest = before = epoch, claims
        claimed = {}
        for batch_id, claim, *of_batch in open_:
            its_epoch, number = map(int, claim.split(b":"))
            before = min(before, (its_epoch, number - 1))
            claimed[batch_id.decode()] = list(_pairs(of_batch))
        live = [0] * len(counters)
        for at, n in _pairs(found):
            live[at] += n
        return Unstored(newest, before, live, claimed, entries)


def _pairs(found: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Positions, which count from 0, and counts."""
    return ((at - 1, _number(n)) for at, n in zip(found[::2], found[1::2], strict=True))


@dataclass(frozen=True)
class Question:
    """What is asked for: the counters named, and what else of theirs Postgres has.

    `statement` is one of `with_ledger` with its `values`; `name` makes a counter's name of the key
    columns of a row.
    """

    statement: str
    values: Mapping[str, Any]
    name: Callable[..., str]
    names: Sequence[str]


class ExactReader:
    """Reads counts exactly, from one Redis and one Postgres.

    Raises redis.RedisError or sqlalchemy.exc.OperationalError when a server is away.
    """

    def __init__(self, unstored: UnstoredCounts, engine: Engine) -> None:
        self._unstored = unstored
        self._reader = Reader(engine)

    def read(self, question: Question) -> Counts:
        """Counts by counter name, of all names asked for and of what else Postgres returns."""
        stored_before: set[str] = set()
        while True:
            unstored = self._unstored.read(question.names)
            rows, stored = self._read_stored(question, unstored)
            since = {id_ for id_, claim in stored.items() if claim > unstored.newest_claim}
            if since <= stored_before:
                break  # a Redis that went back is behind the ledger, however often it is asked
            stored_before |= since
        counts = Counter(dict(zip(question.names, unstored.live, strict=True)))
        for *key, count in rows:
            counts[question.name(*key)] += count
        for batch_id, claimed in unstored.claimed.items():
            if batch_id not in stored:
                for position, count in claimed:
                    counts[question.names[position]] += count
        return counts

    def _read_stored(
        self, question: Question, unstored: Unstored
    ) -> tuple[list[tuple[Any, ...]], dict[str, tuple[int, int]]]:
        """The rows, and the batches in the ledger that the read has to know of, with their
        claims."""
        epoch, claim = unstored.before_claimed
        values = {**question.values, "epoch": epoch, "claim": claim}
        found = self._reader.rows(question.statement, values)
        rows = [row[:-2] for row in found if row[-1] is None]
        return rows, {row[-1]: row[-3:-1] for row in found if row[-1] is not None}


def _number(count: bytes) -> int:
    """A count; 0 for a value that is not ours, of which a flush makes a dead letter."""
    if len(count) > _LONGEST_COUNT or not count.removeprefix(b"-").isdigit():
        return 0
    return int(count)
