"""Whether what is packed of the raw events of sealed days agrees with the archive's rows. Changes
nothing."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Engine, text

from pipeline.days import bound_days
from pipeline.postgres.sealing.seals import read_sealed

_STREAMED_AT_ONCE = 16
_READ_NUMBERS = text("SELECT number FROM schema$.analytics_user_numbers")
_READ_PACKED = text(
    "SELECT event_type, numbers, times, count FROM schema$.analytics_day_events WHERE date = :day"
)
_COUNT_ROWS = text(
    "SELECT event_type, count(*) FROM schema$.events "
    "WHERE timestamp >= :begin AND timestamp < :end AND user_id IS NOT NULL GROUP BY event_type"
)


@dataclass(frozen=True)
class EventsDifference:
    """A sealed day of an event type: how many events of users are packed, and how many rows the
    archive has. Users who were erased are in neither."""

    event_type: str
    day: date
    sealed: int
    stored: int

    def describe(self) -> str:
        """A line for a log."""
        what = f"packed events of {self.event_type}, {self.day}"
        return f"{what}: {self.sealed} sealed, {self.stored} stored"


def audit_packed(engine: Engine, first: date, last: date) -> list[EventsDifference]:
    """What differs on the sealed days from `first` to `last`, of one instant."""
    found = list[EventsDifference]()
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        days = sorted(read_sealed(connection, "events", first, last))
        known = set(connection.execute(_READ_NUMBERS).scalars()) if days else set[int]()
        for day in days:
            begin, end = bound_days(day, day)
            packed = Counter[str]()
            streamed = connection.execute(
                _READ_PACKED, {"day": day}, execution_options={"yield_per": _STREAMED_AT_ONCE}
            )
            for event_type, numbers, times, count in streamed:
                users = struct.iter_unpack(">i", numbers)
                is_whole = len(numbers) == 4 * count and len(times) == 8 * count
                # What is not whole differs from any number of rows.
                packed[event_type] += sum(user in known for (user,) in users) if is_whole else -1
            stored = Counter[str]()
            for name, count in connection.execute(_COUNT_ROWS, {"begin": begin, "end": end}):
                stored[name] = count
            found += [
                EventsDifference(name, day, packed[name], stored[name])
                for name in sorted({*packed, *stored})
                if packed[name] != stored[name]
            ]
    return found
