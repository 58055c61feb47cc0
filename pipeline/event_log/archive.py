"""The archive of raw events in Postgres: the table `events`, and the ledger of archived entries.

One transaction enters the names of entries in the ledger and copies the events of those that were
new. Whatever step a crash falls on, the ledger decides whether an entry is archived, so storing it
again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text
from sqlalchemy.dialects.postgresql import insert

from pipeline.counting.erased_users import NO_ERASED_USERS, ErasedUsers
from pipeline.counting.log_entries import RawEvents
from pipeline.days import today
from pipeline.event_log import catalogue
from pipeline.event_log.copying import copy_events, copy_text
from pipeline.event_log.streams import Entry
from pipeline.options import CountBy
from pipeline.postgres import partitions
from pipeline.postgres.fitness import check_tables
from pipeline.postgres.locks import begin_transfer
from pipeline.postgres.sealing.seals import unseal
from pipeline.postgres.tables import dead_letters, events

_ENTER_ENTRIES = text(
    "INSERT INTO schema$.archived_entries (name, partition, entry_id, events, archived_at, form) "
    "SELECT n, p, i, e, clock_timestamp(), 2 FROM unnest(CAST(:names AS UUID[]), "
    "CAST(:partitions AS INTEGER[]), CAST(:entry_ids AS TEXT[]), CAST(:events AS INTEGER[])) "
    "AS entry (n, p, i, e) ORDER BY n ON CONFLICT DO NOTHING RETURNING name"
)
_PRUNE_ENTRIES = text(
    "DELETE FROM schema$.archived_entries WHERE archived_at < :before AND partition = :partition "
    "AND CAST(split_part(entry_id, '-', 1) AS BIGINT) < :oldest"
)
KEPT_DAYS = 14
"""For which the ledger knows entries that are gone from the stream, for a Redis that is put back to
an older state. There may be one for every event."""

Unreadable = tuple[Entry, str]
"""An entry that cannot be read, and the reason."""


@dataclass(frozen=True)
class UnpackedEntry:
    """An entry with its name and its events."""

    entry: Entry
    name: UUID
    events: RawEvents


class Archive:
    """Where raw events are kept."""

    def __init__(
        self,
        engine: Engine,
        read_erased: Callable[[], ErasedUsers] = ErasedUsers,
        kept: CountBy | None = None,
    ) -> None:
        """`read_erased` is asked in every transaction; of events of these users only the `kept`
        properties of their types are kept."""
        self.engine = engine
        self._read_erased, self._kept = read_erased, kept or {}

    def wait_until_ready(self) -> None:
        """Wait for the end of what holds off transfers. Raises sqlalchemy.exc.OperationalError when
        Postgres is away."""
        with begin_transfer(self.engine):
            pass

    def check_tables(self) -> None:
        """Raise `InvalidConfiguration` when what Postgres refuses is the fault of its tables."""
        with self.engine.connect() as connection:
            check_tables(connection)

    def store(self, entries: Sequence[Entry]) -> tuple[int, list[Unreadable]]:
        """Store the events of the entries that the ledger does not hold; returns how many, and the
        entries that cannot be read, with the reason.

        Partitions are made first, in transactions of their own. A repeat does nothing. Raises
        sqlalchemy.exc.DBAPIError with nothing stored.
        """
        unpacked, unreadable = _unpack(entries)
        if not unpacked:
            return 0, unreadable
        days = Counter(at[:10] for one in unpacked for at in one.events.timestamps)
        partitions.ensure_days(self.engine, events, days, today())
        with self.transaction() as connection:
            return self._save(connection, unpacked), unreadable

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """The transaction that `store` stores in."""
        with begin_transfer(self.engine) as connection:
            yield connection

    def save(
        self, connection: Connection, entries: Sequence[Entry]
    ) -> tuple[int, list[Unreadable]]:
        """Do as `store` in a transaction that is open already, so without making partitions."""
        unpacked, unreadable = _unpack(entries)
        return self._save(connection, unpacked) if unpacked else 0, unreadable

    def _save(self, connection: Connection, unpacked: Sequence[UnpackedEntry]) -> int:
        new = self.enter(connection, unpacked)
        # Read after the hold is shared: an erasure holds it exclusively, so none is missed.
        erased = self._read_erased() if new else NO_ERASED_USERS
        found = [
            erased.anonymise(one.events, one.entry.written_ms, self._kept)
            for one in unpacked
            if one.name in new
        ]
        if found:
            copy_events(connection, map(copy_text, found))
            catalogue.enter(connection, found)
            days = {at[:10] for one in found for at in one.timestamps}
            unseal(connection, "events", [day for day in days if day < f"{today()}"])
        return sum(map(len, found))

    def enter(self, connection: Connection, unpacked: Sequence[UnpackedEntry]) -> set[UUID]:
        """Enter entries in the ledger; returns the names of those that were new."""
        columns: dict[str, list[Any]] = {
            "names": [one.name for one in unpacked],
            "partitions": [one.entry.partition for one in unpacked],
            "entry_ids": [one.entry.entry_id for one in unpacked],
            "events": [len(one.events) for one in unpacked],
        }
        return set(connection.execute(_ENTER_ENTRIES, columns).scalars())

    def bury(self, entry: Entry, reason: str) -> None:
        """Keep an entry that cannot be read as a dead letter. May be repeated."""
        written_s = entry.written_ms / 1000
        # With a digest, since a stream that was made anew may use its ids again.
        digest = blake2b(entry.blob, digest_size=6).hexdigest()
        letter = {
            "id": f"event-log-{entry.partition}-{entry.entry_id}-{digest}",
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


def _unpack(entries: Sequence[Entry]) -> tuple[list[UnpackedEntry], list[Unreadable]]:
    unpacked: list[UnpackedEntry] = []
    unreadable: list[Unreadable] = []
    for entry in entries:
        try:
            unpacked.append(UnpackedEntry(entry, entry.name(), entry.unpack()))
        except ValueError as error:
            unreadable.append((entry, str(error)))
    return unpacked, unreadable
