"""Who was seen when, as of the last flush, in one snapshot of Postgres.

A sealed day is a bitmap of its users' numbers, a day that is not is read from its rows. A user who
has no number yet is on no sealed day: such users get numbers for this read alone, from 2^32
downwards. So every set is exact, whatever is sealed. Users who were erased have their numbers, by
day and event type, and no names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from pyroaring import BitMap
from sqlalchemy import Connection, Engine, text

from pipeline.days import list_days
from pipeline.postgres.sealing.bitmaps import read_bitmap, read_numbers
from pipeline.postgres.sealing.seals import read_sealed
from pipeline.postgres.sealing.tables import ANY_TYPE

_DAY = timedelta(days=1)
_STREAMED_AT_ONCE = 64
_READ_AS_OF = text("SELECT max(stored_at) FROM schema$.flush_batches")
_READ_KEPT_SINCE = text(
    "SELECT before FROM schema$.pruned WHERE table_name = 'analytics_user_daily'"
)
# From day to day along the primary key: there are few days and many rows.
_LIST_DAYS = text(
    """
    WITH RECURSIVE days (date) AS (
        (SELECT date FROM schema$.analytics_user_daily WHERE date BETWEEN :first AND :last
         ORDER BY date LIMIT 1)
        UNION ALL
        SELECT (SELECT one.date FROM schema$.analytics_user_daily AS one
                WHERE one.date > days.date AND one.date <= :last ORDER BY one.date LIMIT 1)
        FROM days WHERE days.date IS NOT NULL
    )
    SELECT date FROM days WHERE date IS NOT NULL
    UNION SELECT date FROM schema$.analytics_anonymous_daily WHERE date BETWEEN :first AND :last
    """
)
_READ_SEALED_DAYS = text(
    "SELECT date, event_type, users FROM schema$.analytics_day_users "
    "WHERE date = ANY(CAST(:days AS DATE[])) AND event_type = ANY(CAST(:types AS TEXT[]))"
)
_READ_PAST = text(
    "SELECT users FROM schema$.analytics_past_users "
    "WHERE month = :month AND event_type = ANY(CAST(:types AS TEXT[]))"
)
_READ_OPEN_DAYS = """
    SELECT date, event_type, string_agg(int4send(number), '') FROM (
        SELECT date, {type} AS event_type, COALESCE(number, CAST(-dense_rank() OVER (
            ORDER BY CASE WHEN number IS NULL THEN user_id END COLLATE "C") AS INTEGER)) AS number
        FROM schema$.analytics_user_daily LEFT JOIN schema$.analytics_user_numbers USING (user_id)
        WHERE {wanted}
        UNION ALL
        SELECT date, {type}, number FROM schema$.analytics_anonymous_daily WHERE {wanted}
    ) AS seen GROUP BY date, event_type
    """
_IN_DAYS = "date = ANY(CAST(:days AS DATE[]))"
_READ_OPEN_DAYS_OF_TYPES = text(
    _READ_OPEN_DAYS.format(
        type="event_type", wanted=f"{_IN_DAYS} AND event_type = ANY(CAST(:types AS TEXT[]))"
    )
)
_READ_OPEN_DAYS_OF_ANY = text(_READ_OPEN_DAYS.format(type="''", wanted=_IN_DAYS))
_SORT_IN_MEMORY = text("SET LOCAL work_mem = '64MB'")

Groups = Mapping[str, Collection[str]]
"""Event types, or `ANY_TYPE` alone, by the name of the group of users who did one of them."""


@dataclass(frozen=True)
class Wanted:
    """Of which days users are wanted, in which groups, and to which period each day belongs."""

    groups: Groups
    first: date
    last: date
    find_period: Callable[[date], date]
    with_past: bool = False

    @property
    def types(self) -> list[str]:
        """All types of the groups."""
        return sorted({name for types in self.groups.values() for name in types})


@dataclass
class Seen:
    """Users by group and period, those who were seen before the range (`past`), and what the answer
    is as of; None: nothing was flushed yet. `kept_since`: earlier days of the range were pruned."""

    as_of: datetime | None
    kept_since: date | None = None
    past: BitMap = field(default_factory=BitMap)
    users: dict[str, dict[date, BitMap]] = field(default_factory=dict)

    def of(self, group: str, period: date) -> BitMap:
        """The users of the group in a period."""
        return self.users.get(group, {}).get(period) or BitMap()

    def join(self, group: str) -> BitMap:
        """The users of the group in the whole range."""
        return BitMap.union(BitMap(), *self.users.get(group, {}).values())


@dataclass(frozen=True)
class Base:
    """From where on days make up the past: all earlier ones are in the users of `month`, where it
    `is_whole`."""

    month: date | None
    is_whole: bool


def read_seen(engine: Engine, wanted: Wanted) -> Seen:
    """Read the users of all groups, in one transaction.

    Raises sqlalchemy.exc.OperationalError when Postgres is away.
    """
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        as_of = connection.execute(_READ_AS_OF).scalar_one()
        kept_since = read_kept_since(connection)
        first = max(wanted.first, kept_since or date.min)
        seen = Seen(as_of, kept_since if first > wanted.first else None)
        past_days = set[date]()
        if wanted.with_past:
            past_days = _read_base(connection, wanted.types, first, kept_since, seen.past)
        days = past_days | set(list_days(first, wanted.last))
        for day, event_type, users in _read_days(connection, wanted.types, days):
            if day in past_days:
                seen.past |= users
                continue
            for group, types in wanted.groups.items():
                if event_type in types:
                    of_group = seen.users.setdefault(group, {})
                    of_group.setdefault(wanted.find_period(day), BitMap()).update(users)
    return seen


def read_kept_since(connection: Connection) -> date | None:
    """The first day whose rows were not pruned; None where none ever were."""
    found: date | None = connection.execute(_READ_KEPT_SINCE).scalar_one_or_none()
    return found


def _read_base(
    connection: Connection, types: Collection[str], first: date, kept_since: date | None, to: BitMap
) -> set[date]:
    """Add the users before `first` that are known from a month; returns the days to be added."""
    base = find_base(connection, first, kept_since)
    if base.month is not None:
        for users in connection.execute(
            _READ_PAST, {"month": base.month, "types": sorted(types)}
        ).scalars():
            to |= read_bitmap(users)
    return list_past_days(connection, base, first)


def find_base(connection: Connection, day: date, kept_since: date | None) -> Base:
    """The last month, at most that of the day, before which all users are known; else the one whose
    earlier days were pruned."""
    whole = max(read_sealed(connection, "past", kept_since or date.min, day), default=None)
    return Base(whole or kept_since, whole is not None)


def list_past_days(connection: Connection, base: Base, day: date) -> set[date]:
    """Days before `day` that have users whom the base does not know."""
    if day == date.min:
        return set()
    if base.is_whole and base.month is not None:
        return set(list_days(base.month, day - _DAY))
    return list_days_with_users(connection, date.min, day - _DAY)


def list_days_with_users(connection: Connection, first: date, last: date) -> set[date]:
    """The days from `first` to `last` that have rows of users."""
    return set(connection.execute(_LIST_DAYS, {"first": first, "last": last}).scalars())


def _read_days(
    connection: Connection, types: Collection[str], days: Collection[date]
) -> Iterator[tuple[date, str, BitMap]]:
    """The users of each type and day; what a seal stands for from its bitmap."""
    if not days:
        return
    sealed = read_sealed(connection, "users", min(days), max(days)) & set(days)
    values = {"days": sorted(sealed), "types": list(types)}
    streamed = connection.execute(
        _READ_SEALED_DAYS, values, execution_options={"yield_per": _STREAMED_AT_ONCE}
    )
    for day, event_type, users in streamed:
        yield day, event_type, read_bitmap(users)
    still_open = sorted(set(days) - sealed)
    if still_open:
        connection.execute(_SORT_IN_MEMORY)
        is_any = ANY_TYPE in types
        statement = _READ_OPEN_DAYS_OF_ANY if is_any else _READ_OPEN_DAYS_OF_TYPES
        of_days = {"days": still_open} if is_any else {"days": still_open, "types": list(types)}
        for day, event_type, joined in connection.execute(statement, of_days):
            yield day, event_type, read_numbers(joined)
