"""The event log: Redis Streams of compressed batches, read by a consumer group.

The apply script appends (`apply.lua`); the form of an entry is in `log_entries.py`. Entries are
deleted when they are archived, never before: XLEN is what waits. Every call that changes something
may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import UUID

import redis

from pipeline.counting.log_entries import RawEvents, unpack
from pipeline.options import MAX_LOG_PARTITIONS
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script

GROUP = "archive"
_OPEN_LOG = Script("pipeline.event_log.open_log")
_ARCHIVED = Script("pipeline.event_log.archived")
_LOG_STATUS = Script("pipeline.event_log.log_status")
_REMOVE_CONSUMERS = Script("pipeline.event_log.remove_consumers")
_PENDING_AT_ONCE = 10_000
_FINISHED_AT_ONCE = 500


@dataclass(frozen=True)
class Entry:
    """An entry as it stands in a stream. `tries` says how often it was given to a consumer."""

    partition: int
    entry_id: str
    fields: dict[bytes, bytes]
    tries: int = 1

    @classmethod
    def parse(cls, partition: int, raw: Any) -> Entry:
        """An entry from what Redis answers: its id and its fields, in pairs or as a dict."""
        entry_id, fields = raw
        if not isinstance(fields, dict):
            fields = dict(zip(fields[::2], fields[1::2], strict=True))
        return cls(partition, entry_id.decode(), fields)

    @property
    def written_ms(self) -> int:
        """When it was written, by Redis's clock (Unix ms): ids begin with that."""
        return int(self.entry_id.split("-")[0])

    @property
    def blob(self) -> bytes:
        """The compressed events."""
        return self.fields.get(b"blob", b"")

    @property
    def events(self) -> int:
        """How many events it says it holds; 0 when it says nothing."""
        said = self.fields.get(b"events", b"")
        return int(said) if said.isdigit() else 0

    def name(self) -> UUID:
        """Its own random name, by which the ledger knows it. Raises ValueError without one."""
        return UUID(self.fields.get(b"name", b"").decode(errors="replace"))

    def unpack(self) -> RawEvents:
        """Its events. Raises ValueError when it cannot be read."""
        events = unpack(self.blob, self.fields.get(b"format", b"").decode(errors="replace"))
        if len(events) != self.events:
            raise ValueError(f"it says that it holds {self.events} events, and holds {len(events)}")
        return events


@dataclass(frozen=True)
class Stream:
    """A stream that exists, and how many entries it holds."""

    partition: int
    entries: int


class EventLog:
    """The streams of one Redis under one prefix. Holds no state but the client."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.streams = [keys.events(n) for n in range(MAX_LOG_PARTITIONS)]

    def open(self) -> list[Stream]:
        """The streams there are, also those of more partitions than there are now; makes their
        consumer groups."""
        found = _OPEN_LOG.run(self.client, keys=self.streams, args=[GROUP])
        return [Stream(position - 1, entries) for position, entries in found]

    def read(self, partition: int, consumer: str, count: int) -> list[Entry]:
        """Up to `count` entries that no consumer has read yet; they are pending for this one."""
        found = self.client.xreadgroup(GROUP, consumer, {self.streams[partition]: ">"}, count=count)
        streams = list(found.values()) if isinstance(found, dict) else [one[1] for one in found]
        # Since protocol 3 a stream's entries come within one more list.
        entries = streams[0] if streams else []
        if entries and isinstance(entries[0], list):
            entries = entries[0]
        return [Entry.parse(partition, raw) for raw in entries]

    def claim_stale(
        self, partition: int, consumer: str, idle_s: float, count: int
    ) -> Iterator[list[Entry]]:
        """Claim entries that another consumer read so long ago and has not finished, up to `count`
        at a time: it is dead, or gave up."""
        stream, cursor = self.streams[partition], b"0-0"
        while True:
            reply: Any = self.client.xautoclaim(
                stream, GROUP, consumer, int(idle_s * 1000), start_id=cursor, count=count
            )
            cursor = reply[0]
            entries = [Entry.parse(partition, raw) for raw in reply[1]]
            if entries:
                yield self._with_tries(consumer, entries)
            if cursor == b"0-0":
                return

    def _with_tries(self, consumer: str, entries: Sequence[Entry]) -> list[Entry]:
        pending: Any = self.client.xpending_range(
            self.streams[entries[0].partition],
            GROUP,
            min=entries[0].entry_id,
            max=entries[-1].entry_id,
            count=_PENDING_AT_ONCE,
            consumername=consumer,
        )
        tries = {one["message_id"].decode(): one["times_delivered"] for one in pending}
        return [replace(one, tries=tries.get(one.entry_id, one.tries)) for one in entries]

    def give_back(self, consumer: str, entries: Sequence[Entry], idle_s: float) -> None:
        """Let `claim_stale` find at once what this consumer read and was not let store; that was no
        try of the entries'. May be repeated."""
        pipeline = self.client.pipeline(transaction=False)
        for one in entries:
            pipeline.xclaim(
                self.streams[one.partition],
                GROUP,
                consumer,
                min_idle_time=0,
                message_ids=[one.entry_id],
                idle=int(idle_s * 1000) + 1,
                retrycount=max(0, one.tries - 1),
                justid=True,
            )
        pipeline.execute()

    def finish(self, entries: Sequence[Entry]) -> None:
        """Acknowledge and delete entries of one stream that are archived, some hundred at a time:
        Redis does nothing else meanwhile."""
        for first in range(0, len(entries), _FINISHED_AT_ONCE):
            some = entries[first : first + _FINISHED_AT_ONCE]
            args: list[str | int] = [GROUP, some[0].partition]
            for one in some:
                args += (one.entry_id, len(one.blob), one.events)
            _ARCHIVED.run(
                self.client,
                keys=[self.streams[some[0].partition], self.keys.events_sizes],
                args=args,
            )

    def find_oldest_ms(self) -> list[int]:
        """For each partition, also those that are not used, when its oldest entry was written: ids
        begin with that. The present where there is none."""
        now_ms, _, streams = self._ask()
        oldest = [now_ms] * len(self.streams)
        for position, _, first, _ in streams:
            if first:
                oldest[position - 1] = _written_ms(first)
        return oldest

    def remove_consumers(self, partition: int, idle_s: float, consumer: str = "") -> int:
        """Remove consumers that hold nothing and were idle for so long, or the named one; returns
        how many."""
        args: list[str | int] = [GROUP, int(idle_s * 1000), consumer]
        return cast(
            "int", _REMOVE_CONSUMERS.run(self.client, keys=[self.streams[partition]], args=args)
        )

    def follow(self, missed: Callable[[int], None], wait_ms: int = 1_000) -> Iterator[Entry | None]:
        """Entries as they are appended from now on, and None whenever none comes for a while.

        `missed` is told how many were archived before they could be read.
        """
        after: dict[Any, Any] = dict.fromkeys(self.streams, "0-0")
        added = 0
        for stream in self.streams:
            known = self._info(stream)
            after[stream] = known.get("last-generated-id", b"0-0")
            added += known.get("entries-added", 0)
        read, due = added, added
        while True:
            found: Any = self.client.xread(after, count=100, block=wait_ms)
            by_stream = found.items() if isinstance(found, dict) else found
            none = True
            for name, entries in by_stream:
                if entries and isinstance(entries[0], list):
                    entries = entries[0]
                stream = name.decode()
                for raw in entries:
                    none = False
                    after[stream] = raw[0]
                    read += 1
                    yield Entry.parse(self.streams.index(stream), raw)
            if none:
                # All that had been added when it was last quiet has been read by now, or is gone.
                if due > read:
                    missed(due - read)
                    read = due
                due = sum(self._info(stream).get("entries-added", 0) for stream in self.streams)
                yield None

    def _info(self, stream: str) -> dict[str, Any]:
        try:
            found: Any = self.client.xinfo_stream(stream)
        except redis.ResponseError:  # there is none yet
            return {}
        return dict(found)

    def count_bytes(self) -> int:
        """What the streams hold, compressed."""
        sizes: Any = self.client.hgetall(self.keys.events_sizes)
        return sum(_number(n) for name, n in sizes.items() if name.endswith(b":bytes"))

    def read_status(self) -> dict[str, Any]:
        """What waits in the log, JSON-ready: entries, events and bytes in all, those given to a
        consumer and those not yet (`lag`), the age of the oldest, and each consumer."""
        now_ms, said, streams = self._ask()
        sizes = dict(zip(said[::2], said[1::2], strict=True))
        found: dict[str, Any] = {"entries": 0, "events": 0, "bytes": 0}
        oldest_ms = now_ms
        consumers: list[dict[str, Any]] = []
        for position, entries, first, of_stream in streams:
            partition = position - 1
            consumers += [_consumer(partition, info) for info in of_stream]
            if entries:
                found["entries"] += entries
                for what in ("events", "bytes"):
                    found[what] += max(0, _number(sizes.get(f"{partition}:{what}".encode())))
                oldest_ms = min(oldest_ms, _written_ms(first))
        found["pending"] = sum(one["pending"] for one in consumers)
        found["lag"] = max(0, found["entries"] - found["pending"])  # what is archived is deleted
        found["oldest_s"] = (now_ms - oldest_ms) // 1000
        return found | {"consumers": consumers}

    def _ask(self) -> tuple[int, list[bytes], list[Any]]:
        keys = [self.keys.events_sizes, *self.streams]
        return cast(
            "tuple[int, list[bytes], list[Any]]",
            _LOG_STATUS.run(self.client, keys=keys, args=[GROUP]),
        )


def _consumer(partition: int, info: Any) -> dict[str, Any]:
    fields = info if isinstance(info, dict) else dict(zip(info[::2], info[1::2], strict=True))
    return {
        "partition": partition,
        "name": fields[b"name"].decode(errors="replace"),
        "pending": fields[b"pending"],
        "idle_s": fields[b"idle"] // 1000,
    }


def _number(text: bytes | None) -> int:
    return int(text) if text and text.lstrip(b"-").isdigit() else 0


def _written_ms(entry_id: bytes) -> int:
    return int(entry_id.split(b"-")[0])
