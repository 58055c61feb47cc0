"""The catalogue of what was archived: event types, the names of their properties, how often each
came and when last.

It is kept in the transaction that archives the events, so it counts each of them once, whatever
step a crash falls on. What is pruned or erased later stays in it: names of properties are no data
about people.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, text

from pipeline.counting.increments import OTHER, encode_value
from pipeline.counting.log_entries import RawEvents

MOST_PROPERTIES = 1_000
"""Names of properties of a type; further ones are counted together, as `__other__`."""

_ADD = (
    "INSERT INTO schema$.{table} AS kept ({keys}, events, last) SELECT * FROM unnest({columns}, "
    "CAST(:events AS BIGINT[]), CAST(:last AS TIMESTAMPTZ[])) AS more ({keys}, events, last) "
    "ORDER BY {keys} ON CONFLICT ({keys}) DO UPDATE SET events = kept.events + excluded.events, "
    "last = GREATEST(kept.last, excluded.last)"
)
_TYPES, _PROPERTIES = "CAST(:types AS TEXT[])", "CAST(:properties AS TEXT[])"
_ADD_TYPES = text(_ADD.format(table="analytics_event_types", keys="event_type", columns=_TYPES))
_ADD_PROPERTIES = text(
    _ADD.format(
        table="analytics_event_properties",
        keys="event_type, property",
        columns=f"{_TYPES}, {_PROPERTIES}",
    )
)
_READ_NAMES = text(
    "SELECT event_type, property FROM schema$.analytics_event_properties "
    "WHERE event_type = ANY(CAST(:types AS TEXT[]))"
)
_FOLD_TYPES = text(
    "WITH gone AS (DELETE FROM schema$.analytics_event_types "
    "WHERE event_type = ANY(CAST(:types AS TEXT[])) RETURNING events, last, since) "
    "INSERT INTO schema$.analytics_event_types AS kept (event_type, events, last, since) "
    f"SELECT '{OTHER}', CAST(sum(events) AS BIGINT), max(last), max(since) FROM gone "
    "HAVING count(*) > 0 ON CONFLICT (event_type) DO UPDATE "
    "SET events = kept.events + excluded.events, last = GREATEST(kept.last, excluded.last), "
    "since = GREATEST(kept.since, excluded.since)"
)
_DROP_PROPERTIES = text(
    "DELETE FROM schema$.analytics_event_properties WHERE event_type = ANY(CAST(:types AS TEXT[]))"
)
# So that two who find new names at once do not both find room for them.
_LOCK_NAMES = text("SELECT pg_advisory_xact_lock(hashtext('schema$.analytics:property-names'))")

_decode_all = msgspec.json.Decoder(list[dict[str, msgspec.Raw] | None]).decode
_decode_one = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode

_Shape = tuple[str, tuple[str, ...]]
"""An event type, and the names of an event's properties in their order."""
_Key = TypeVar("_Key")
Property = tuple[str, str]
"""An event type, and the name of a property as it is kept."""


class Sightings:
    """How many events there were of each event type and of each property, and the time of the
    newest, as ISO 8601 text in UTC."""

    def __init__(self) -> None:
        self.types: Counter[str] = Counter()
        self.properties: Counter[Property] = Counter()
        self.last_of_types: defaultdict[str, str] = defaultdict(str)
        self.last_of_properties: defaultdict[Property, str] = defaultdict(str)

    def add(self, events: RawEvents) -> None:
        """Add events. Of each event little is done, of each set of names that occurs the rest."""
        shapes = list(zip(events.event_types, _list_names(events.properties), strict=True))
        counts = Counter(shapes)
        last = _find_newest(shapes, counts, events.timestamps)
        for (event_type, names), n in counts.items():
            at = last[event_type, names]
            self.types[event_type] += n
            self.last_of_types[event_type] = max(self.last_of_types[event_type], at)
            for name in names:
                one = event_type, encode_value(name)
                self.properties[one] += n
                self.last_of_properties[one] = max(self.last_of_properties[one], at)

    def fold(self, known: Mapping[str, set[str]]) -> None:
        """Count properties that are not known, past the cap of their type, as `__other__`."""
        room = {name: MOST_PROPERTIES - len(found - {OTHER}) for name, found in known.items()}
        for one in sorted(self.properties):
            event_type, name = one
            if name == OTHER or name in known[event_type]:
                continue
            if room[event_type] > 0:
                room[event_type] -= 1
                continue
            other = event_type, OTHER
            self.properties[other] += self.properties.pop(one)
            at = self.last_of_properties.pop(one)
            self.last_of_properties[other] = max(self.last_of_properties[other], at)


def enter(connection: Connection, found: Iterable[RawEvents]) -> None:
    """Add events to the catalogue, in the transaction that archives them, and as the last of its
    steps: other archivers wait for the rows until it ends."""
    sightings = Sightings()
    for events in found:
        sightings.add(events)
    types = list(sightings.types)
    if not types:
        return
    columns = _columns(sightings.types, sightings.last_of_types)
    connection.execute(_ADD_TYPES, {"types": types, **columns})
    if not sightings.properties:
        return
    known = _read_names(connection, types)
    if any(name not in known[event_type] for event_type, name in sightings.properties):
        connection.execute(_LOCK_NAMES)
        sightings.fold(_read_names(connection, types))
    named = {
        "types": [event_type for event_type, _ in sightings.properties],
        "properties": [name for _, name in sightings.properties],
    }
    columns = _columns(sightings.properties, sightings.last_of_properties)
    connection.execute(_ADD_PROPERTIES, named | columns)


def fold(connection: Connection, types: Collection[str]) -> None:
    """Make the archived events of these types part of the rest; the names of their properties go,
    as the values that were counted do. A repeat does nothing."""
    values = {"types": sorted(types)}
    connection.execute(_FOLD_TYPES, values)
    connection.execute(_DROP_PROPERTIES, values)


def _find_newest(
    shapes: Sequence[_Shape], counts: Collection[_Shape], timestamps: Sequence[str]
) -> Mapping[_Shape, str]:
    """The newest time of each shape; without the Z, so that a fraction of a second is more than
    none."""
    times = [at[:-1] for at in timestamps]
    if len(counts) == 1:  # the usual case, in a twentieth of the time
        return dict.fromkeys(counts, max(times))
    newest: dict[_Shape, str] = {}
    for shape, at in zip(shapes, times, strict=True):
        if at > newest.get(shape, ""):
            newest[shape] = at
    return newest


def _list_names(properties: Sequence[msgspec.Raw]) -> list[tuple[str, ...]]:
    """The names of each event's properties."""
    try:  # all at once, which takes half the time
        found = _decode_all(b"[%s]" % b",".join(properties))
    except (msgspec.DecodeError, UnicodeError):
        return list(map(_list_names_of, properties))
    return [tuple(one) if one else () for one in found]


def _list_names_of(properties: msgspec.Raw) -> tuple[str, ...]:
    """The names of one event's properties; of what is no object, as no worker lets through, no
    name."""
    try:
        return tuple(_decode_one(properties) or ())
    except (msgspec.DecodeError, UnicodeError):
        return ()


def _read_names(connection: Connection, types: Sequence[str]) -> dict[str, set[str]]:
    known: dict[str, set[str]] = {event_type: set() for event_type in types}
    for event_type, name in connection.execute(_READ_NAMES, {"types": types}):
        known[event_type].add(name)
    return known


def _columns(counts: Mapping[_Key, int], last: Mapping[_Key, str]) -> dict[str, list[Any]]:
    return {"events": list(counts.values()), "last": [f"{last[one]}Z" for one in counts]}
