"""Numbers of users: given when a day is sealed, taken away when nothing names the user any more.

What gives numbers or reads them by their names shares a lock with its like. Taking numbers away
holds it exclusively, so that none is taken from a user between being read and being written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from pipeline.errors import NumbersUsedUp
from pipeline.postgres.refusals import read_sqlstate

MOST_NUMBERS = 2**31 - 1
_USED_UP = "2200H"
_LOCK = "hashtext('schema$.analytics:user_numbers')"
_SHARE = text(f"SELECT pg_advisory_xact_lock_shared({_LOCK})")
_HOLD = text(f"SELECT pg_advisory_xact_lock({_LOCK})")
# Only those without: a conflict would use up a number.
_GIVE_TO_USERS_OF_DAYS = text(
    "INSERT INTO schema$.analytics_user_numbers (user_id) "
    "SELECT DISTINCT user_id FROM schema$.analytics_user_daily AS seen "
    "WHERE date = ANY(CAST(:days AS DATE[])) AND NOT EXISTS ("
    "SELECT 1 FROM schema$.analytics_user_numbers AS one WHERE one.user_id = seen.user_id) "
    "ORDER BY user_id ON CONFLICT DO NOTHING"
)
_GIVE_TO_USERS_OF_EVENTS = text(
    "INSERT INTO schema$.analytics_user_numbers (user_id) "
    "SELECT DISTINCT user_id FROM schema$.events AS seen "
    "WHERE timestamp >= :begin AND timestamp < :end AND user_id IS NOT NULL AND NOT EXISTS ("
    "SELECT 1 FROM schema$.analytics_user_numbers AS one WHERE one.user_id = seen.user_id) "
    "ORDER BY user_id ON CONFLICT DO NOTHING"
)
_GIVE = text(
    "INSERT INTO schema$.analytics_user_numbers (user_id) "
    "SELECT user_id FROM unnest(CAST(:users AS TEXT[])) AS wanted (user_id) WHERE NOT EXISTS ("
    "SELECT 1 FROM schema$.analytics_user_numbers AS one WHERE one.user_id = wanted.user_id) "
    "ORDER BY user_id ON CONFLICT DO NOTHING"
)
_HAS_NO_ROWS = (
    "NOT EXISTS (SELECT 1 FROM schema$.analytics_user_daily AS seen "
    "WHERE seen.user_id = one.user_id) "
    "AND NOT EXISTS (SELECT 1 FROM schema$.events AS event WHERE event.user_id = one.user_id)"
)
_FIND_UNUSED = text(
    f"SELECT number FROM schema$.analytics_user_numbers AS one WHERE {_HAS_NO_ROWS}"
)
_TAKE_UNUSED = text(
    "DELETE FROM schema$.analytics_user_numbers AS one "
    f"WHERE number = ANY(CAST(:numbers AS INTEGER[])) AND {_HAS_NO_ROWS}"
)
_TAKEN_AT_ONCE = 10_000
_TAKE = text(
    "DELETE FROM schema$.analytics_user_numbers WHERE user_id = ANY(CAST(:users AS TEXT[]))"
)


def keep_numbers(connection: Connection) -> None:
    """Keep the number of every user until the transaction ends."""
    connection.execute(_SHARE)


def give_numbers(connection: Connection, days: list[date]) -> None:
    """Give each user of these days a number, and keep all numbers until the transaction ends.

    Raises `NumbersUsedUp`.
    """
    keep_numbers(connection)
    with _reported():
        connection.execute(_GIVE_TO_USERS_OF_DAYS, {"days": days})


def give_numbers_of_events(connection: Connection, begin: datetime, end: datetime) -> None:
    """Give each user of archived events of this time a number, and keep all numbers until the
    transaction ends.

    Raises `NumbersUsedUp`.
    """
    keep_numbers(connection)
    with _reported():
        connection.execute(_GIVE_TO_USERS_OF_EVENTS, {"begin": begin, "end": end})


def give_numbers_to(connection: Connection, user_ids: Collection[str]) -> None:
    """Give each of these users a number, and keep all numbers until the transaction ends.

    Raises `NumbersUsedUp`.
    """
    if user_ids:
        keep_numbers(connection)
        with _reported():
            connection.execute(_GIVE, {"users": list(user_ids)})


def take_numbers(connection: Connection, user_ids: Iterable[str]) -> None:
    """Let the numbers of these users stand for no name any more. May be repeated."""
    connection.execute(_TAKE, {"users": list(user_ids)})


def take_unused_numbers(engine: Engine) -> int:
    """Let go of the numbers, and so the names, of users without any row; returns how many. What
    gives numbers is held up for moments only. May be repeated."""
    with engine.connect() as connection:
        numbers = connection.execute(_FIND_UNUSED).scalars().all()
    taken = 0
    for first in range(0, len(numbers), _TAKEN_AT_ONCE):
        with engine.begin() as connection:
            connection.execute(_HOLD)
            some = {"numbers": list(numbers[first : first + _TAKEN_AT_ONCE])}
            taken += connection.execute(_TAKE_UNUSED, some).rowcount
    return taken


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if read_sqlstate(error) != _USED_UP:
            raise
        raise NumbersUsedUp(
            f"all {MOST_NUMBERS:,} numbers of users were given, so no day can be sealed and no "
            "user be erased; counts stay exact, from the rows of each day: report this, for "
            "numbers have to get wider"
        ) from error
