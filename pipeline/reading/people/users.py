"""Distinct users of event types: of a range, new and returning, by period, and how many are
active."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Literal

from pyroaring import BitMap
from sqlalchemy import Engine

from pipeline.days import begin_month, begin_next_month
from pipeline.errors import TooManyPeriods
from pipeline.postgres.sealing.tables import ANY_TYPE
from pipeline.reading.people.snapshot import Seen, Wanted, read_seen

Period = Literal["day", "week", "month"]

MOST_PERIODS = 400
"""Of one answer: it has the users of each in memory."""
_GROUP = "users"
_WEEK_DAYS, _MONTH_DAYS = 7, 30
_DIGITS = 4


@dataclass(frozen=True)
class Users:
    """Distinct users: `new` were not seen before the first day, `returning` were. As of the last
    flush, None: there was none yet. `kept_since`: the days before it were pruned, and are not part
    of this."""

    users: int
    new: int
    as_of: datetime | None
    kept_since: date | None = None

    @property
    def returning(self) -> int:
        """Those who were seen before."""
        return self.users - self.new


@dataclass(frozen=True)
class UserSeries:
    """The users of a range, and of each of its periods, by the period's first day."""

    total: Users
    points: Sequence[tuple[date, Users]]


@dataclass(frozen=True)
class ActiveUsers:
    """Users of any event on a day (`dau`), in the 7 days (`wau`) and the 30 days (`mau`) that it
    ends. As of the last flush, None: there was none yet."""

    dau: int
    wau: int
    mau: int
    as_of: datetime | None
    kept_since: date | None = None

    @property
    def stickiness(self) -> float | None:
        """The share of the month's users who came on the day; None where there were none."""
        return round(self.dau / self.mau, _DIGITS) if self.mau else None


def count_users(engine: Engine, event_types: Collection[str], first: date, last: date) -> Users:
    """The users who did one of these, of any event where none is named, from `first` to `last`."""
    wanted = _want(event_types, first, last, with_past=True)
    # One set, however many days there are.
    seen = read_seen(engine, replace(wanted, find_period=lambda _: first))
    return _count(seen, seen.join(_GROUP), seen.past)


def count_users_by(
    engine: Engine, event_types: Collection[str], first: date, last: date, by: Period
) -> UserSeries:
    """Do the same for each day, week or month as well, those without users included. Of a period
    `new` are those who were not seen before it; one that the range cuts has the days within.

    Raises `TooManyPeriods`.
    """
    periods = list_few_periods(first, last, by)
    wanted = _want(event_types, first, last, by, with_past=True)
    seen = read_seen(engine, wanted)
    total = _count(seen, seen.join(_GROUP), seen.past)
    points, past = [], seen.past
    for period in periods:
        users = seen.of(_GROUP, period)
        points.append((period, _count(seen, users, past)))
        past |= users
    return UserSeries(total, points)


def count_active(engine: Engine, day: date) -> ActiveUsers:
    """The active users as of a day."""
    first = _days_before(day, _MONTH_DAYS - 1)
    seen = read_seen(engine, _want((), first, day))
    by_day = {one: seen.of(_GROUP, one) for one in seen.users.get(_GROUP, {})}
    begin_week = _days_before(day, _WEEK_DAYS - 1)
    week = [users for one, users in by_day.items() if one >= begin_week]
    return ActiveUsers(
        len(seen.of(_GROUP, day)),
        len(BitMap.union(BitMap(), *week)),
        len(seen.join(_GROUP)),
        seen.as_of,
        seen.kept_since,
    )


def list_periods(first: date, last: date, by: Period) -> list[date]:
    """The periods that have a part of the range, by their first days."""
    periods = [begin_period(first, by)]
    while (following := _begin_next(periods[-1], by)) is not None and following <= last:
        periods.append(following)
    return periods


def list_few_periods(first: date, last: date, by: Period) -> list[date]:
    """The same. Raises `TooManyPeriods` where they are more than one answer has."""
    periods = list_periods(first, last, by)
    if len(periods) > MOST_PERIODS:
        raise TooManyPeriods(
            f"{first} to {last} are {len(periods)} periods of a {by}, and at most {MOST_PERIODS} "
            "are compared: ask for fewer days, or for weeks or months"
        )
    return periods


def begin_period(day: date, by: Period) -> date:
    """The first day of the day's period; a week begins on Monday."""
    if by == "week":
        return _days_before(day, day.weekday())
    return begin_month(day) if by == "month" else day


def _begin_next(period: date, by: Period) -> date | None:
    try:
        if by == "month":
            return begin_next_month(period)
        return period + timedelta(days=_WEEK_DAYS if by == "week" else 1)
    except (OverflowError, ValueError):
        return None  # the calendar ends


def _days_before(day: date, days: int) -> date:
    return date.fromordinal(max(1, day.toordinal() - days))


def _want(
    event_types: Collection[str],
    first: date,
    last: date,
    by: Period = "day",
    *,
    with_past: bool = False,
) -> Wanted:
    def find_period(day: date) -> date:
        return begin_period(day, by)

    groups = {_GROUP: tuple(event_types) or (ANY_TYPE,)}
    return Wanted(groups, first, last, find_period, with_past)


def _count(seen: Seen, users: BitMap, past: BitMap) -> Users:
    return Users(len(users), users.difference_cardinality(past), seen.as_of, seen.kept_since)
