"""Which properties the events of a type have, as the archive has seen them, and their most frequent
values: of those that are counted from the counters, of others from a sample of the archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

import msgspec
from sqlalchemy import Connection, Engine, text

from pipeline.counting.increments import decode_value, encode_value
from pipeline.event.model import Event
from pipeline.event_log.queries import EventFilter, read_page
from pipeline.options import CounterOptions

SAMPLED_EVENTS = 1_000
SHOWN_VALUES = 5
_RECENT = timedelta(days=30)
_READ_TYPE = text(
    "SELECT events, since FROM schema$.analytics_event_types WHERE event_type = :event_type"
)
_READ_PROPERTIES = text(
    "SELECT property, events, last FROM schema$.analytics_event_properties "
    "WHERE event_type = :event_type ORDER BY events DESC, property"
)
_READ_VALUES = text(
    "SELECT property, value, count FROM (SELECT property, value, sum(count) AS count, "
    "row_number() OVER (PARTITION BY property ORDER BY sum(count) DESC, value) AS rank "
    "FROM schema$.analytics_dimension_daily WHERE event_type = :event_type AND date >= :since "
    "GROUP BY property, value) AS ranked WHERE rank <= :most ORDER BY property, rank"
)
_READ_SUMMED = text(
    "SELECT name FROM unnest(CAST(:names AS TEXT[])) AS name WHERE EXISTS (SELECT FROM "
    "schema$.analytics_sums WHERE event_type = :event_type AND property = name)"
)
_LIST_TYPES = text(
    "SELECT event_type FROM schema$.analytics_event_types "
    "ORDER BY events DESC, event_type LIMIT :most"
)
_LIST_PROPERTIES = text(
    "SELECT property FROM schema$.analytics_event_properties WHERE event_type = :event_type "
    "ORDER BY events DESC, property LIMIT :most"
)
_READ_AS_OF = text(
    "SELECT (SELECT max(archived_at) FROM schema$.archived_entries), "
    "(SELECT max(stored_at) FROM schema$.flush_batches)"
)

Values = list[tuple[str, int]]


def list_archived_types(engine: Engine, most: int) -> list[str]:
    """Event types that the archive has seen, those of most events first; what may be proposed."""
    with engine.connect() as connection:
        return list(connection.execute(_LIST_TYPES, {"most": most}).scalars())


def list_archived_properties(engine: Engine, event_type: str, most: int) -> list[str]:
    """Properties that archived events of a type had, those of most events first."""
    with engine.connect() as connection:
        wanted = {"event_type": event_type, "most": most}
        return list(connection.execute(_LIST_PROPERTIES, wanted).scalars())


@dataclass(frozen=True)
class PropertySummary:
    """A property: how many archived events had it and the time of the newest of them (None: none is
    known), whether its values are counted and its numbers summed, and the most frequent values: of
    the last 30 days where they are counted, else of the sample."""

    name: str
    events: int | None
    last: datetime | None
    counted: bool
    summed: bool
    values: Values


@dataclass(frozen=True)
class TypeProperties:
    """The properties of a type, those that most events had first, and how many more there are.

    `events` of the type were archived, or `since` then, if that is no None; how many is as of the
    last archive run, `as_of`, and values that are counted are as of the last flush, `values_as_of`.
    `sampled` events, the newest, are the sample.
    """

    properties: list[PropertySummary]
    more: int
    events: int
    since: datetime | None
    as_of: datetime | None
    values_as_of: datetime | None
    sampled: int

    COLUMNS: ClassVar = (
        "property",
        "events",
        "last",
        "counted",
        "summed",
        "value",
        "count",
        "sampled",
    )

    def to_object(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        return {
            "properties": [
                {
                    "property": one.name,
                    "events": one.events,
                    "last": _format(one.last),
                    "counted": one.counted,
                    "summed": one.summed,
                    "values": [{"value": value, "count": n} for value, n in one.values],
                    "sampled": not one.counted,
                }
                for one in self.properties
            ],
            "more": self.more,
            "events": self.events,
            "since": _format(self.since),
            "as_of": _format(self.as_of),
            "values_as_of": _format(self.values_as_of),
            "sample": self.sampled,
        }

    def list_rows(self) -> list[tuple[object, ...]]:
        """As a table of `COLUMNS`: a row for each value, and one for a property without any."""
        no_value: list[tuple[str | None, int | None]] = [(None, None)]
        return [
            (
                *(one.name, one.events, _format(one.last), one.counted, one.summed),
                *(value, n, not one.counted),
            )
            for one in self.properties
            for value, n in one.values or no_value
        ]


@dataclass(frozen=True)
class CatalogueReader:
    """Reads what the archive knows of event types. `options` are those of this process.

    Raises sqlalchemy.exc.OperationalError when Postgres is away.
    """

    engine: Engine
    options: CounterOptions

    def list_properties(self, event_type: str, today: date, limit: int) -> TypeProperties:
        """The properties of a type, as of the last archive run."""
        with self.engine.connect().execution_options(
            isolation_level="REPEATABLE READ"
        ) as connection:
            values = {"event_type": event_type}
            events, since = connection.execute(_READ_TYPE, values).one_or_none() or (0, None)
            seen = {
                decode_value(name): (n, last)
                for name, n, last in connection.execute(_READ_PROPERTIES, values)
            }
            counted = self._read_counted(connection, event_type, today)
            summed = self._read_summed(connection, event_type, seen)
            as_of, values_as_of = connection.execute(_READ_AS_OF).one()
        sample, _ = read_page(self.engine, EventFilter(event_type), SAMPLED_EVENTS)
        names = list(dict.fromkeys([*seen, *counted, *summed]))
        sampled = _count_values(sample, set(names[:limit]) - counted.keys())
        properties = [
            PropertySummary(
                name,
                *seen.get(name, (None, None)),
                name in counted,
                name in summed,
                counted[name] if name in counted else sampled.get(name, []),
            )
            for name in names[:limit]
        ]
        more = max(0, len(names) - limit)
        return TypeProperties(properties, more, events, since, as_of, values_as_of, len(sample))

    def _read_counted(
        self, connection: Connection, event_type: str, today: date
    ) -> dict[str, Values]:
        """The properties whose values are counted, here or by other processes of late, with their
        most frequent values."""
        found: dict[str, Values] = {name: [] for name in self.options.count_by.get(event_type, ())}
        wanted = {"event_type": event_type, "since": today - _RECENT, "most": SHOWN_VALUES}
        for name, value, n in connection.execute(_READ_VALUES, wanted):
            found.setdefault(name, []).append((decode_value(value), int(n)))
        return found

    def _read_summed(
        self, connection: Connection, event_type: str, seen: Collection[str]
    ) -> list[str]:
        """The properties whose numbers are summed here, and those seen of which sums are stored."""
        here = sorted(self.options.sums.get(event_type, ()))
        names = [encode_value(name) for name in seen if name not in here]
        found = connection.execute(_READ_SUMMED, {"event_type": event_type, "names": names})
        return [*here, *map(decode_value, found.scalars())]


def _count_values(sample: Sequence[Event], names: set[str]) -> Mapping[str, Values]:
    """The most frequent values of these properties."""
    counts: dict[str, Counter[str]] = {}
    for event in sample:
        for name, value in (event.properties or {}).items():
            shown = _show(name)
            if shown in names and value is not None:
                counts.setdefault(shown, Counter())[_show(value)] += 1
    return {name: found.most_common(SHOWN_VALUES) for name, found in counts.items()}


def _format(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat() if at else None


def _show(value: Any) -> str:
    """Text as it is; anything else as JSON, as values are counted; cut when it is long."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return decode_value(encode_value(text))
