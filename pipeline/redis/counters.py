"""What a counter counts. `keys.py` has the name of each, and the way back from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

COUNT, NOT_NUMBERS = "count", "not_numbers"
"""Parts of a sum: see `SumCounter`."""


@dataclass(frozen=True, slots=True)
class DailyCounter:
    """How often an event type happened on a day."""

    event_type: str
    day: date


@dataclass(frozen=True, slots=True)
class HourlyCounter:
    """How often an event type happened in an hour, given by its start in UTC."""

    event_type: str
    hour: datetime


@dataclass(frozen=True, slots=True)
class QuarterCounter:
    """How often an event type happened in a quarter hour, given by its start in UTC."""

    event_type: str
    quarter: datetime


@dataclass(frozen=True, slots=True)
class UserCounter:
    """How often a user did something on a day."""

    user_id: str
    event_type: str
    day: date


@dataclass(frozen=True, slots=True)
class ValueCounter:
    """How often an event type happened on a day with a value of a property."""

    event_type: str
    property: str
    value: str
    day: date


@dataclass(frozen=True, slots=True)
class GapCounter:
    """How many events of an hour were counted and not logged, and why: "off" or "full"."""

    event_type: str
    reason: str
    hour: datetime


@dataclass(frozen=True, slots=True)
class SumCounter:
    """A part of the sum of a property's numbers in a quarter hour.

    The part is `count`, how many numbers there were; `not_numbers`, how many values that were none;
    or `e` and an exponent, such as `e-2`: that many times that power of ten. The sum is that of all
    its parts with exponents.
    """

    event_type: str
    property: str
    part: str
    quarter: datetime


@dataclass(frozen=True, slots=True)
class ValueSumCounter:
    """The same on a day, of the events with a value of another property, `by`."""

    event_type: str
    property: str
    by: str
    value: str
    part: str
    day: date


@dataclass(frozen=True, slots=True)
class BinCounter:
    """How many numbers of a property on a day were of a size: see `pipeline.event.scale`."""

    event_type: str
    property: str
    bin: int
    day: date


Counter = (
    DailyCounter
    | HourlyCounter
    | QuarterCounter
    | UserCounter
    | ValueCounter
    | GapCounter
    | SumCounter
    | ValueSumCounter
    | BinCounter
)


def day_of(counter: Counter) -> date:
    """The day (UTC) that a counter is of."""
    match counter:
        case HourlyCounter(hour=at) | GapCounter(hour=at):
            return at.date()
        case QuarterCounter(quarter=at) | SumCounter(quarter=at):
            return at.date()
    return counter.day
