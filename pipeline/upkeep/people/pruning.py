"""What is kept of users when old rows are pruned: that they were seen, by number, and no names.

Before rows go, all who were seen before the first month that stays are noted in a bitmap, under a
seal. A drop is undone where the seal is broken by then: rows have come that the bitmap does not
have. Afterwards what was sealed of the pruned days goes, and so do the names of users who have no
rows any more. Such a user who comes back is new.
"""

from __future__ import annotations

from datetime import date

from sqlalchemy import Connection, Engine, text

from pipeline.errors import RowsHaveCome
from pipeline.postgres.sealing.numbers import take_unused_numbers
from pipeline.postgres.sealing.seals import drop_seals_of_users, read_sealed, seal
from pipeline.reading.people.snapshot import read_kept_since
from pipeline.upkeep.people.sealing import write_past

_NUMBERS = "analytics_user_numbers"
_READ_NOTED = text("SELECT before FROM schema$.pruned WHERE table_name = :table")
_NOTE = text(
    "INSERT INTO schema$.pruned (table_name, before) VALUES (:table, :before) "
    "ON CONFLICT (table_name) DO UPDATE SET before = excluded.before"
)
_DROP = (
    text("DELETE FROM schema$.analytics_day_users WHERE date < :before"),
    text("DELETE FROM schema$.analytics_anonymous_daily WHERE date < :before"),
    text("DELETE FROM schema$.analytics_past_users WHERE month < :before"),
)


def note_past(engine: Engine, before: date) -> date | None:
    """Seal who was seen before this month, or before the one up to which rows were pruned, where
    that is later, unless it is sealed; returns the month, None where rows come in meanwhile. May be
    repeated. Raises `NumbersUsedUp`."""
    with engine.connect() as connection:
        month = max(before, read_kept_since(connection) or before)
    seal(engine, "past", [month], write_past)
    with engine.connect() as connection:
        return month if read_sealed(connection, "past", month, month) else None


def check_past(connection: Connection, month: date) -> None:
    """Raise `RowsHaveCome` unless all who were seen before this month are known still."""
    if not read_sealed(connection, "past", month, month):
        raise RowsHaveCome("rows of old days have come in")


def forget_pruned(engine: Engine, before: date, *, has_dropped: bool) -> None:
    """Drop what is kept of users by day or month from before this month, and the names of users
    without rows, if rows were dropped now or names were not looked through since. May be repeated.
    """
    with engine.begin() as connection:
        for statement in _DROP:
            connection.execute(statement, {"before": before})
        drop_seals_of_users(connection, before)
        noted = connection.execute(_READ_NOTED, {"table": _NUMBERS}).scalar_one_or_none()
    if has_dropped or noted is None or noted < before:
        take_unused_numbers(engine)
        with engine.begin() as connection:
            connection.execute(_NOTE, {"table": _NUMBERS, "before": before})
