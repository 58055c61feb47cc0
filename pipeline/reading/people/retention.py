"""Retention: of those who did one thing in a period, how many did another so many periods later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Engine

from pipeline.reading.people.snapshot import Wanted, read_seen
from pipeline.reading.people.users import Period, begin_period, list_few_periods

_START, _RETURN = "start", "return"


@dataclass(frozen=True)
class Cohort:
    """Those who did the first thing in a period: how many they are, and how many of them did the
    second in the same period, the next one, and so on to the end of the range."""

    start: date
    users: int
    returned: Sequence[int]


@dataclass(frozen=True)
class Retention:
    """The cohorts of a range. As of the last flush, None: there was none yet. `kept_since`: the
    days before it were pruned, and are not part of this."""

    cohorts: Sequence[Cohort]
    as_of: datetime | None
    kept_since: date | None = None


def count_retention(
    engine: Engine, start: str, return_: str, by: Period, days: tuple[date, date]
) -> Retention:
    """The retention from event type `start` to event type `return_` in a range of days. A period
    that the range cuts has the days within.

    Raises `TooManyPeriods`.
    """
    periods = list_few_periods(*days, by)
    groups = {_START: (start,), _RETURN: (return_,)}
    seen = read_seen(engine, Wanted(groups, *days, lambda day: begin_period(day, by)))
    returns = [seen.of(_RETURN, period) for period in periods]
    cohorts = []
    for at, period in enumerate(periods):
        cohort = seen.of(_START, period)
        returned = [cohort.intersection_cardinality(users) for users in returns[at:]]
        cohorts.append(Cohort(period, len(cohort), returned))
    return Retention(cohorts, seen.as_of, seen.kept_since)
