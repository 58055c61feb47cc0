"""Redis and Postgres as of one instant, for what compares or mends them.

Counts and raw events leave Redis by a flush and by the archive only. While both are held off
(`pipeline.postgres.locks`), what Postgres has stays as it is, and one script says what it does not
have: both together are the truth of that instant, while counting goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from uuid import UUID

from sqlalchemy import Connection, select

from pipeline.counting.apply import Counters
from pipeline.counting.log_entries import as_events
from pipeline.errors import TooMuchWaiting
from pipeline.event.model import Event
from pipeline.event_log.streams import Entry, EventLog
from pipeline.flushing.claims import Claims
from pipeline.postgres.tables import archived_entries, flush_batches
from pipeline.reading.exact import Unstored, UnstoredCounts

MOST_WAITING_BYTES = 16 * 1024 * 1024
"""Compressed; half a million events perhaps. One script answers with all of it."""


class Snapshot:
    """What Postgres does not have, read bit by bit while transfers are held off.

    Each `read` is of one instant, at which `events` are all logged events that were not archived.
    """

    def __init__(self, counters: Counters, log: EventLog, connection: Connection) -> None:
        self._counters, self._log, self._connection = counters, log, connection
        if log.count_bytes() > MOST_WAITING_BYTES:
            raise TooMuchWaiting(
                f"{log.count_bytes()} bytes wait in the event log, more than can be looked at "
                f"({MOST_WAITING_BYTES}): let `analytics archive` end first"
            )
        self._stored = _find_stored(counters, connection)
        self._unstored = UnstoredCounts(counters.client, counters.keys)
        self._after = dict.fromkeys(log.streams, "0-0")
        self.unreadable = 0
        """Entries that no version of ours can read: their events are not among `events`."""

    def read(self, names: Sequence[str]) -> tuple[list[int], Iterator[Event]]:
        """The counts of these counters that are not stored, and the events logged since the last
        call that are not archived; to be read before the next call."""
        found = self._unstored.read(names, self._after)
        entries = [
            Entry.parse(partition, raw)
            for partition, of_stream in enumerate(found.entries)
            for raw in of_stream
        ]
        for entry in entries:
            self._after[self._log.streams[entry.partition]] = entry.entry_id
        return _add_up(found, self._stored), self._events(entries)

    def _events(self, entries: Sequence[Entry]) -> Iterator[Event]:
        named: dict[UUID, Entry] = {}
        for entry in entries:
            try:
                named[entry.name()] = entry
            except ValueError:
                self.unreadable += 1
        ledger = select(archived_entries.c.name).where(archived_entries.c.name.in_(list(named)))
        archived = set(self._connection.execute(ledger).scalars()) if named else set()
        # No user is erased meanwhile: that needs the same lock.
        erased = self._counters.read_erased_users()
        kept = self._counters.options.kept_properties
        for name, entry in named.items():
            if name not in archived:
                try:
                    of_entry = erased.anonymise(entry.unpack(), entry.written_ms, kept)
                    found = list(as_events(of_entry))
                except ValueError:
                    self.unreadable += 1
                else:
                    yield from found


def read_unstored(counters: Counters, connection: Connection, names: Sequence[str]) -> list[int]:
    """The counts of these counters that are not stored, as `Snapshot.read` gives them."""
    stored = _find_stored(counters, connection)
    return _add_up(UnstoredCounts(counters.client, counters.keys).read(names), stored)


def _find_stored(counters: Counters, connection: Connection) -> set[str]:
    """The open batches that the ledger has."""
    open_ = Claims(counters.client, counters.keys).open_batches()
    ledger = select(flush_batches.c.batch_id).where(flush_batches.c.batch_id.in_(open_))
    return set(connection.execute(ledger).scalars())


def _add_up(found: Unstored, stored: Collection[str]) -> list[int]:
    counts = found.live.copy()
    for batch_id, claimed in found.claimed.items():
        if batch_id not in stored:
            for position, n in claimed:
                counts[position] += n
    return counts
