"""Event log -> Postgres, exactly once.

One transaction enters the names of entries in a ledger and copies the events of those that were
new; then the entries are acknowledged and deleted. Whatever step a crash falls on, another consumer
claims the entries after a while, and the ledger decides whether they are stored. Several consumers
may run at once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import redis
from sqlalchemy import Connection, Engine, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from pipeline.counting.erased_users import NO_ERASED_USERS, ErasedUsers
from pipeline.counting.log_entries import RawEvents
from pipeline.event_log.streams import Entry, EventLog
from pipeline.options import CountBy
from pipeline.postgres import partitions
from pipeline.postgres.locks import begin_transfer
from pipeline.postgres.refusals import blames_row, read_sqlstate
from pipeline.postgres.tables import dead_letters, events

_ENTER_ENTRIES = text(
    "INSERT INTO archived_entries (name, partition, entry_id, events, archived_at) "
    "SELECT n, p, i, e, clock_timestamp() FROM unnest(CAST(:names AS UUID[]), "
    "CAST(:partitions AS INTEGER[]), CAST(:entry_ids AS TEXT[]), CAST(:events AS INTEGER[])) "
    "AS entry (n, p, i, e) ORDER BY n ON CONFLICT DO NOTHING RETURNING name"
)
_PRUNE_ENTRIES = text(
    "DELETE FROM archived_entries WHERE archived_at < :before AND partition = :partition "
    "AND CAST(split_part(entry_id, '-', 1) AS BIGINT) < :oldest"
)
COPY_EVENTS = "COPY events (event_type, timestamp, user_id, properties, event_id) FROM STDIN"
_SPECIAL = re.compile(r"[\\\n\r\t]")
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
_NULL = r"\N"
_NO_PARTITION_NOW = ("55P03", "23514")
"""SQLSTATE: a lock was not to be had in time; the default partition has rows of that day."""
KEPT_DAYS = 14
"""For which the ledger knows entries that are gone from the stream, for a Redis that is put back to
an older state. There may be one for every event."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArchiveOptions:
    """How the archive works. A transaction takes entries until it has `events_at_once`, or
    `bytes_at_once` compressed. What a consumer has not finished for `idle_s` is another's; what
    cannot be read `tries` times becomes a dead letter."""

    events_at_once: int = 20_000
    bytes_at_once: int = 4 * 1024 * 1024
    entries_at_once: int = 16
    idle_s: float = 60
    tries: int = 5


@dataclass(frozen=True)
class _Read:
    """An entry with its name and its events."""

    entry: Entry
    name: UUID
    events: RawEvents


Unreadable = tuple[Entry, str]


class Archive:
    """Where raw events are kept: the table `events`, and its ledger."""

    def __init__(
        self,
        engine: Engine,
        read_erased: Callable[[], ErasedUsers] = ErasedUsers,
        count_by: CountBy | None = None,
    ) -> None:
        """`read_erased` is asked in every transaction; of events of these users only the
        properties named in `count_by` are kept."""
        self.engine = engine
        self._read_erased, self._count_by = read_erased, count_by or {}

    def store(self, entries: Sequence[Entry]) -> tuple[int, list[Unreadable]]:
        """Store the events of the entries that the ledger does not hold; returns how many, and the
        entries that cannot be read, with the reason.

        A repeat does nothing. Raises sqlalchemy.exc.DBAPIError with nothing changed.
        """
        with self.transaction() as connection:
            return self.save(connection, entries)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction in which `save` is called; what that stores is stored when it ends."""
        with begin_transfer(self.engine) as connection:
            yield connection

    def save(
        self, connection: Connection, entries: Sequence[Entry]
    ) -> tuple[int, list[Unreadable]]:
        """The same as `store`, in an open transaction."""
        read, unreadable = _read_all(entries)
        new = self.enter(connection, read) if read else set()
        # Read after the hold is shared: an erasure holds it exclusively, so none is missed.
        erased = self._read_erased() if new else NO_ERASED_USERS
        found = [
            erased.anonymise(one.events, one.entry.written_ms, self._count_by)
            for one in read
            if one.name in new
        ]
        self._make_partitions({day for one in found for day in _days(one)})
        if found:
            _copy(connection, map(copy_text, found))
        return sum(map(len, found)), unreadable

    def _make_partitions(self, days: set[date]) -> None:
        """Those days that have none share the default partition where theirs cannot be made:
        somebody reads the table for long, or did when the first events of that day came."""
        try:
            partitions.ensure_days(self.engine, events, days)
        except DBAPIError as error:
            if read_sqlstate(error) not in _NO_PARTITION_NOW:
                raise
            logger.warning("some days share the default partition of events: %s", error.orig)

    def enter(self, connection: Connection, read: Sequence[_Read]) -> set[UUID]:
        """Enter entries in the ledger; returns the names of those that were new."""
        columns: dict[str, list[Any]] = {
            "names": [one.name for one in read],
            "partitions": [one.entry.partition for one in read],
            "entry_ids": [one.entry.entry_id for one in read],
            "events": [len(one.events) for one in read],
        }
        return set(connection.execute(_ENTER_ENTRIES, columns).scalars())

    def bury(self, entry: Entry, reason: str) -> None:
        """Keep an entry that cannot be read as a dead letter. May be repeated."""
        written_s = entry.written_ms / 1000
        letter = {
            # With a digest, since a stream that was made anew may use its ids again.
            "id": f"event-log-{entry.partition}-{entry.entry_id}-{_digest(entry.blob)}",
            "kind": "entry",
            "body": entry.blob,
            "reason": f"an entry of the event log: {reason}".replace("\x00", "�"),
            "created_at": datetime.fromtimestamp(written_s, UTC),
        }
        with self.engine.begin() as connection:
            connection.execute(insert(dead_letters).on_conflict_do_nothing(), [letter])

    def prune_entries(self, archived_before: datetime, oldest_waiting_ms: Sequence[int]) -> None:
        """Delete what the ledger holds from before then, but no entry that may still be in its
        stream: only the ledger says that it is archived. May be repeated.

        `oldest_waiting_ms` says for each partition when its oldest entry was written.
        """
        with self.engine.begin() as connection:
            for partition, oldest_ms in enumerate(oldest_waiting_ms):
                values = {"before": archived_before, "partition": partition, "oldest": oldest_ms}
                connection.execute(_PRUNE_ENTRIES, values)


def archive(log: EventLog, archive: Archive, options: ArchiveOptions | None = None) -> int:
    """Archive what waits in the event log; returns how many events.

    May be repeated and run beside others. Raises sqlalchemy.exc.OperationalError when Postgres is
    away, before anything is taken, and redis.RedisError when Redis is.
    """
    run = _Run(log, archive, options or ArchiveOptions())
    stored = sum(run.partition(one.partition, one.entries) for one in log.open())
    if stored:
        logger.info("archived %d events", stored)
    return stored


class _Run:
    """One run of one consumer, which has a name of its own."""

    def __init__(self, log: EventLog, store: Archive, options: ArchiveOptions) -> None:
        self._log, self._store, self._options = log, store, options
        self._consumer = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"

    def partition(self, partition: int, waiting: int) -> int:
        """Archive a stream; traffic goes on, so twice what waits is taken before it is let be."""
        try:
            stored = self._stale(partition) + self._fresh(partition, 2 * waiting)
            self._log.remove_consumers(partition, 0, self._consumer)
            self._log.remove_consumers(partition, self._options.idle_s)
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            logger.warning("stream %d of the event log was deleted while it was read", partition)
            return 0
        return stored

    def _stale(self, partition: int) -> int:
        stored, options = 0, self._options
        for entries in self._log.stale(
            partition, self._consumer, options.idle_s, options.entries_at_once
        ):
            logger.info("%d entries of a consumer that died are taken over", len(entries))
            stored += self._take(lambda entries=entries: entries)[1]  # type: ignore[misc]
        return stored

    def _fresh(self, partition: int, budget: int) -> int:
        stored = 0
        while budget > 0:
            taken, found = self._take(lambda: self._next(partition))
            if not taken:
                break
            stored += found
            budget -= taken
        return stored

    def _next(self, partition: int) -> list[Entry]:
        """What one transaction takes of what nobody has got yet."""
        options = self._options
        entries: list[Entry] = []
        while (
            sum(one.events for one in entries) < options.events_at_once
            and sum(len(one.blob) for one in entries) < options.bytes_at_once
        ):
            more = self._log.read(partition, self._consumer, options.entries_at_once)
            entries += more
            if len(more) < options.entries_at_once:
                break
        return entries

    def _take(self, read: Callable[[], list[Entry]]) -> tuple[int, int]:
        """Store what `read` gives; returns how many entries that were, and events stored."""
        entries: list[Entry] = []
        try:
            with self._store.transaction() as connection:
                entries = read()  # after that: while Postgres is away nothing is taken
                stored, unreadable = self._store.save(connection, entries)
        except DBAPIError as error:
            if not blames_row(error):
                raise
            stored, unreadable = self._one_by_one(entries)
        for entry, reason in unreadable:
            self._set_aside(entry, reason)
        left = {entry.entry_id for entry, _ in unreadable}
        self._log.finish([one for one in entries if one.entry_id not in left])
        return len(entries), stored

    def _one_by_one(self, entries: Sequence[Entry]) -> tuple[int, list[Unreadable]]:
        """Store each entry in a transaction of its own: one that Postgres refuses holds up no
        other."""
        stored, unreadable = 0, []
        for entry in entries:
            try:
                found, bad = self._store.store([entry])
            except DBAPIError as error:
                if not blames_row(error):
                    raise
                bad = [(entry, f"Postgres refuses an event: {error.orig}")]
            else:
                stored += found
            unreadable += bad
        return stored, unreadable

    def _set_aside(self, entry: Entry, reason: str) -> None:
        """Leave an entry for a later try, of another version perhaps; after some, bury it."""
        where = f"entry {entry.entry_id} of stream {entry.partition}"
        if entry.tries < self._options.tries:
            logger.error("%s is not archived, try %d: %s", where, entry.tries, reason)
            return
        logger.error("%s becomes a dead letter: %s", where, reason)
        self._store.bury(entry, reason)
        self._log.finish([entry])


def _read_all(entries: Sequence[Entry]) -> tuple[list[_Read], list[Unreadable]]:
    read: list[_Read] = []
    unreadable: list[Unreadable] = []
    for entry in entries:
        try:
            read.append(_Read(entry, entry.name(), entry.unpack()))
        except ValueError as error:
            unreadable.append((entry, str(error)))
    return read, unreadable


def copy_text(events: RawEvents) -> str:
    """The events as rows of COPY's text format."""
    properties = [bytes(raw).decode() for raw in events.properties]
    columns = (
        _column(events.event_types),
        events.timestamps,
        _column(events.user_ids),
        _column([None if raw == "null" else raw for raw in properties]),
        _column(events.event_ids),
    )
    rows = map("\t".join, zip(*columns, strict=True))
    return "".join(f"{row}\n" for row in rows)


def _column(values: Sequence[str | None]) -> Sequence[str]:
    texts = [_NULL if value is None else value for value in values]
    if any(map(_SPECIAL.search, texts)):
        return [_NULL if value is None else value.translate(_ESCAPES) for value in values]
    return texts


def _digest(blob: bytes) -> str:
    return hashlib.blake2b(blob, digest_size=6).hexdigest()


def _days(events: RawEvents) -> set[date]:
    return {date.fromisoformat(day) for day in {at[:10] for at in events.timestamps}}


def _copy(connection: Connection, parts: Iterable[str]) -> None:
    """COPY into `events`; errors are raised as SQLAlchemy raises those of its own statements."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    try:
        with driver.cursor() as cursor, cursor.copy(COPY_EVENTS) as copy:
            for part in parts:
                copy.write(part)
    except psycopg.Error as error:
        if driver.closed:
            connection.invalidate(error)
        raise DBAPIError.instance(COPY_EVENTS, None, error, psycopg.Error) from error
