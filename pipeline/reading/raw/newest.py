"""The newest raw events: those that wait in the event log, and below them those of the archive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from sqlalchemy import Engine

from pipeline.counting import erased_users
from pipeline.counting.erased_users import ErasedUsers
from pipeline.counting.log_entries import as_events
from pipeline.event.model import Event
from pipeline.event_log.queries import EventFilter, read_newest
from pipeline.event_log.streams import Entry
from pipeline.options import MAX_LOG_PARTITIONS, CounterOptions
from pipeline.redis.keys import Keys

_MOST_ENTRIES = 2
"""Of a stream, for each read: one holds up to some hundred events."""


class NewestEvents:
    """What came last, event by event in the order of the log. Keeps the newest `limit`; a read adds
    what the log has got since the one before. For one thread at a time.

    A read takes a few entries of the log, however many it holds, so of more events than they hold
    only the newest are seen. Events of types that are not logged are never among them.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        options: CounterOptions,
        limit: int,
        event_type: str | None = None,
    ) -> None:
        """Of `event_type`, or of all types."""
        self._client, self._keys, self._options, self._limit = client, keys, options, limit
        self._wanted = EventFilter(event_type)
        self._streams = [keys.events(number) for number in range(MAX_LOG_PARTITIONS)]
        self._after: dict[str, str] = {}
        self._newest: list[Event] | None = None

    def read(self, engine: Engine) -> Sequence[Event]:
        """The events, newest first. Raises redis.RedisError, and sqlalchemy.exc.OperationalError
        at the first read, which begins with the newest of the archive."""
        erased = erased_users.read(self._client, self._keys, self._options.user_id_secret)
        came = self._read_log(erased)
        if self._newest is None:
            archived = read_newest(engine, self._wanted, self._limit)
            came.sort(key=lambda event: event.timestamp, reverse=True)
            self._newest = archived
        # An entry is in both for the moment between being archived and being deleted.
        found = {_identify(event): event for event in [*came, *self._newest]}
        kept = [event for event in found.values() if not erased.drops(event)]
        self._newest = kept[: self._limit]
        return self._newest

    def _read_log(self, erased: ErasedUsers) -> list[Event]:
        """The events of entries that are new, those of the last entry first."""
        pipeline = self._client.pipeline(transaction=False)
        for stream in self._streams:
            after = self._after.get(stream)
            pipeline.xrevrange(stream, "+", f"({after}" if after else "-", count=_MOST_ENTRIES)
        entries = [
            Entry.parse(number, raw)
            for number, found in enumerate(pipeline.execute())
            for raw in found
        ]
        entries.sort(key=_place, reverse=True)
        events: list[Event] = []
        for entry in entries:
            stream = self._streams[entry.partition]
            if _place(entry) > _split(self._after.get(stream, "0-0")):
                self._after[stream] = entry.entry_id
            try:
                raw = entry.unpack()
            except ValueError:
                continue  # the archive buries it
            kept = erased.anonymise(raw, entry.written_ms, self._options.kept_properties)
            events += filter(self._wanted.matches, reversed(list(as_events(kept))))
        return events


def _place(entry: Entry) -> tuple[int, ...]:
    return _split(entry.entry_id)


def _split(entry_id: str) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split("-")))


def _identify(event: Event) -> Any:
    properties = repr(event.properties)
    return event.event_type, event.timestamp, event.user_id, event.event_id, properties
