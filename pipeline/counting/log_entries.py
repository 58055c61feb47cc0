"""Raw events as the event log carries them: which are logged, and the form of an entry.

Pure: no server. An entry holds the events of one batch by column, as JSON, compressed. Columns
compress better and faster than objects. Measured on a real log, zlib at its fastest takes 1 µs for
an event and leaves 35 of 306 bytes; a thread that compresses while the batch is added up gains
nothing where every core has a worker, and loses by handing over Python's lock.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

import msgspec

from pipeline.event.model import Event
from pipeline.options import MAX_LOG_PARTITIONS, EventLogOptions
from pipeline.redis.keys import Keys

FORMAT = "1"
"""The form of what `pack` makes; an entry says which it has, so that a later one can be told."""
LEVEL = 1

OFF = "off"
FULL = "full"
"""Why an event was counted and not logged: its type is switched off, or the log is full."""


class RawEvents(msgspec.Struct, array_like=True, gc=False):
    """Events by column. Timestamps are ISO 8601 text in UTC; properties are JSON text, or null."""

    event_types: list[str]
    timestamps: list[str]
    user_ids: list[str | None]
    properties: list[msgspec.Raw]
    event_ids: list[str | None]

    def __len__(self) -> int:
        return len(self.event_types)


_encode = msgspec.json.Encoder().encode
_decode_properties = msgspec.json.Decoder(dict[str, Any] | None).decode
_decode = msgspec.json.Decoder(RawEvents).decode


class LogEntry(msgspec.Struct, gc=False):
    """What the apply script appends to a stream, beside the blob; `gap` are the counters to add to
    in its place when the stream is full."""

    stream: str
    sizes: str
    partition: int
    name: str
    events: int
    gap: dict[str, int]


def pack(events: Sequence[Event]) -> bytes:
    """The events as an entry's blob."""
    columns = (
        [event.event_type for event in events],
        [event.timestamp for event in events],
        [event.user_id for event in events],
        [event.properties for event in events],
        [event.event_id for event in events],
    )
    return zlib.compress(_encode(columns), LEVEL)


def unpack(blob: bytes, form: str = FORMAT) -> RawEvents:
    """The events of a blob. Raises ValueError when it is none."""
    if form != FORMAT:
        raise ValueError(f"its format is {form!r}, and this version reads {FORMAT!r}")
    try:
        events = _decode(zlib.decompress(blob))
    except (zlib.error, msgspec.DecodeError, UnicodeError) as error:
        raise ValueError(f"it cannot be read: {error}") from error
    columns: list[Any] = list(msgspec.structs.astuple(events))
    if len({len(column) for column in columns}) != 1:
        raise ValueError("its columns differ in length")
    return events


def as_events(raw: RawEvents) -> Iterator[Event]:
    """The events one by one."""
    columns = (raw.event_types, raw.timestamps, raw.user_ids, raw.properties, raw.event_ids)
    for event_type, at, user_id, properties, event_id in zip(*columns, strict=True):
        decoded = _decode_properties(properties)
        yield Event(event_type, datetime.fromisoformat(at), user_id, decoded, event_id)


Hours = Mapping[tuple[str, str], int]
"""Events counted by (event type, hour)."""


def partition_of(event_type: str, options: EventLogOptions) -> int | None:
    """The partition of a type's events, which stays the same while their number does; None when the
    type is not logged."""
    types = options.types
    if types != "all" and (isinstance(types, str) or event_type not in types):
        return None
    return zlib.crc32(event_type.encode()) % min(options.partitions, MAX_LOG_PARTITIONS)


def log_events(
    events: Sequence[Event], hours: Hours, options: EventLogOptions, keys: Keys
) -> tuple[list[LogEntry], list[bytes], dict[str, int]]:
    """What the event log takes of a batch: an entry for each partition, their blobs in the same
    order, and the gap counters of events whose types are not logged. An entry has a random name, by
    which the ledger of the archive knows it: a stream that was deleted, or a server that took over
    with a slower clock, gives ids out again."""
    types = {event_type for event_type, _ in hours}
    places = {name: partition_of(name, options) for name in types}
    partitions = sorted({place for place in places.values() if place is not None})
    gaps: dict[int | None, dict[str, int]] = {place: {} for place in (None, *partitions)}
    for (event_type, hour), n in hours.items():
        place = places[event_type]
        gaps[place][keys.gap(event_type, OFF if place is None else FULL, hour)] = n
    entries, blobs = [], []
    for place in partitions:
        together = set(places.values()) == {place}  # the usual case
        some = events if together else [one for one in events if places[one.event_type] == place]
        name, sizes = uuid4().hex, keys.events_sizes
        entries.append(LogEntry(keys.events(place), sizes, place, name, len(some), gaps[place]))
        blobs.append(pack(some))
    return entries, blobs, gaps[None]
