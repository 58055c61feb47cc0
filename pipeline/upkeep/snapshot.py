"""Redis and Postgres as of one instant, for what compares or mends them.

Counts and raw events leave Redis by a flush and by the archive only. While both are held off
(`pipeline.postgres.locks`), what Postgres has stays as it is, and one script says what it does not
have: both together are the truth of that instant, while counting goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, select

from pipeline.counting.apply import Counters
from pipeline.counting.log_entries import as_events
from pipeline.errors import TooMuchWaiting
from pipeline.event.model import Event
from pipeline.event_log.streams import Entry, EventLog
from pipeline.flushing.claims import Claims
from pipeline.postgres.tables import archived_entries, flush_batches
from pipeline.redis.scripts import Script

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
        open_ = Claims(counters.client, counters.keys).open_batches()
        ledger = select(flush_batches.c.batch_id).where(flush_batches.c.batch_id.in_(open_))
        self._stored = list(connection.execute(ledger).scalars())
        self._after = ["0-0"] * len(log.streams)
        self.unreadable = 0
        """Entries that no version of ours can read: their events are not among `events`."""

    def read(self, names: Sequence[str]) -> tuple[list[int], Iterator[Event]]:
        """The counts of these counters that are not stored, and the events logged since the last
        call that are not archived; to be read before the next call."""
        question = [list(names), self._stored, self._after]
        lists, streams = Script("pipeline.upkeep.unstored").run(
            self._counters.client,
            keys=[self._counters.keys.batches, *self._log.streams],
            args=[self._counters.keys.inflight, msgspec.msgpack.encode(question)],
        )
        entries = [
            Entry.parse(partition, raw) for partition, found in enumerate(streams) for raw in found
        ]
        for entry in entries:
            self._after[entry.partition] = entry.entry_id
        counts = [sum(_count(one[i]) for one in lists) for i in range(len(names))]
        return counts, self._events(entries)

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
        by = self._counters.options.count_by
        for name, entry in named.items():
            if name not in archived:
                try:
                    of_entry = erased.anonymise(entry.unpack(), entry.written_ms, by)
                    found = list(as_events(of_entry))
                except ValueError:
                    self.unreadable += 1
                else:
                    yield from found


def _count(text: Any) -> int:
    try:
        return int(text) if text else 0
    except ValueError:  # a value that is not ours; it reaches no table either
        return 0
