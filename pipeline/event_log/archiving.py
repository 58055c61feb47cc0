"""Event log -> archive, exactly once.

A consumer reads entries, has the archive store them in one transaction, then acknowledges and
deletes them. Whatever step a crash falls on, another consumer claims the entries after a while, and
the ledger decides whether they are stored. Several consumers may run at once.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from uuid import uuid4

import redis
from sqlalchemy.exc import DBAPIError

from pipeline.event_log.archive import Archive, Unreadable
from pipeline.event_log.streams import Entry, EventLog
from pipeline.measures import ARCHIVE_EVENTS, ARCHIVE_S
from pipeline.postgres.refusals import blames_row, is_about_server, is_about_timing
from pipeline.traces.spans import ROWS, note_span

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArchiveOptions:
    """How a run works. A transaction takes entries until it has `events_at_once`, or
    `bytes_at_once` compressed. What a consumer has not finished for `idle_s` is claimed by another;
    what cannot be read `tries` times becomes a dead letter."""

    events_at_once: int = 20_000
    bytes_at_once: int = 4 * 1024 * 1024
    entries_at_once: int = 16
    idle_s: float = 60
    tries: int = 5


def archive_entries(log: EventLog, archive: Archive, options: ArchiveOptions | None = None) -> int:
    """Archive what waits in the event log; returns how many events.

    May be repeated and run beside others. Raises sqlalchemy.exc.OperationalError when Postgres is
    away, before anything is taken, and redis.RedisError when Redis is.
    """
    consumer = _Consumer(log, archive, options or ArchiveOptions())
    stored = sum(consumer.archive_stream(one.partition, one.entries) for one in log.open())
    if stored:
        logger.info("archived %d events", stored)
    return stored


class _Consumer:
    """A consumer of the group, with a name of its own, for one run."""

    def __init__(self, log: EventLog, archive: Archive, options: ArchiveOptions) -> None:
        self._log, self._archive, self._options = log, archive, options
        self._name = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"

    def archive_stream(self, partition: int, length: int) -> int:
        """Archive a stream; returns how many events. Producers go on, so the run ends after twice
        the entries that it began with."""
        try:
            stored = self._archive_stale(partition) + self._archive_new(partition, 2 * length)
            self._log.remove_consumers(partition, 0, self._name)
            self._log.remove_consumers(partition, self._options.idle_s)
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            logger.warning("stream %d of the event log was deleted while it was read", partition)
            return 0
        return stored

    def _archive_stale(self, partition: int) -> int:
        """Claim and archive what dead consumers have left."""
        stored, options = 0, self._options
        for entries in self._log.claim_stale(
            partition, self._name, options.idle_s, options.entries_at_once
        ):
            logger.info("%d entries of a consumer that died are taken over", len(entries))
            stored += self._archive_batch(lambda entries=entries: entries)[1]  # type: ignore[misc]
        return stored

    def _archive_new(self, partition: int, budget: int) -> int:
        """Archive up to about `budget` entries that no consumer has read."""
        stored = 0
        while budget > 0:
            entries, events = self._archive_batch(lambda: self._read_batch(partition))
            if not entries:
                break
            stored += events
            budget -= entries
        return stored

    def _read_batch(self, partition: int) -> list[Entry]:
        """The entries of one transaction, among those that no consumer has read."""
        options = self._options
        entries: list[Entry] = []
        while (
            sum(one.events for one in entries) < options.events_at_once
            and sum(len(one.blob) for one in entries) < options.bytes_at_once
        ):
            more = self._log.read(partition, self._name, options.entries_at_once)
            entries += more
            if len(more) < options.entries_at_once:
                break
        return entries

    def _archive_batch(self, read: Callable[[], list[Entry]]) -> tuple[int, int]:
        """Store the entries that `read` returns, then acknowledge them; returns how many entries
        that were, and events stored."""
        entries: list[Entry] = []
        try:
            self._archive.wait_until_ready()
            began_s = monotonic()
            entries = read()  # after that: while Postgres is away nothing is taken
            stored, unreadable = self._store(entries)
        except DBAPIError as error:
            if entries and (is_about_server(error) or is_about_timing(error)):
                with suppress(redis.RedisError):  # else they are found a minute later
                    self._log.give_back(self._name, entries, self._options.idle_s)
            raise
        for entry, reason in unreadable:
            self._set_aside(entry, reason)
        left = {entry.entry_id for entry, _ in unreadable}
        self._log.finish([one for one in entries if one.entry_id not in left])
        if stored:
            ARCHIVE_S.note(monotonic() - began_s)
            ARCHIVE_EVENTS.note(stored)
            note_span("archive batch", began_s, {ROWS: stored})
        return len(entries), stored

    def _store(self, entries: Sequence[Entry]) -> tuple[int, list[Unreadable]]:
        try:
            return self._archive.store(entries)
        except DBAPIError as error:
            if not blames_row(error):
                raise
            self._archive.check_tables()
            return self._store_one_by_one(entries)

    def _store_one_by_one(self, entries: Sequence[Entry]) -> tuple[int, list[Unreadable]]:
        """Store each entry in a transaction of its own: one that Postgres refuses holds up no
        other."""
        stored, unreadable = 0, []
        for entry in entries:
            try:
                events, bad = self._archive.store([entry])
            except DBAPIError as error:
                if not blames_row(error):
                    raise
                bad = [(entry, f"Postgres refuses an event: {_first_line(error)}")]
            else:
                stored += events
            unreadable += bad
        return stored, unreadable

    def _set_aside(self, entry: Entry, reason: str) -> None:
        """Leave an entry for a later try, of another version perhaps; after some, bury it."""
        where = f"entry {entry.entry_id} of stream {entry.partition}"
        if entry.tries < self._options.tries:
            logger.error("%s is not archived, try %d: %s", where, entry.tries, reason)
            return
        logger.error("%s becomes a dead letter: %s", where, reason)
        self._archive.bury(entry, reason)
        self._log.finish([entry])


def _first_line(error: DBAPIError) -> str:
    """What Postgres says, without the detail that quotes the row, and so a user id."""
    return str(error.orig).partition("\n")[0]
