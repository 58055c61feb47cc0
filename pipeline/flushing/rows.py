"""From counters' names to rows of the counter tables, quickly: a flush may bring a million.

Rows are kept by column, as texts: a tuple for each would be one more object for Python's garbage
collector to look through. Postgres takes them as one text a column, which it cuts at a separator:
arrays cost several times as much to write and to read.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Table

from pipeline.postgres.tables import (
    COUNTER_TABLES,
    daily,
    dimension_daily,
    event_log_gaps,
    hourly,
    key_columns,
    user_daily,
)
from pipeline.redis.keys import (
    Counter,
    DailyCounter,
    GapCounter,
    HourlyCounter,
    Keys,
    UserCounter,
    hour_text,
)

Columns = Sequence[list[str]]
"""Rows of a table: the columns of its primary key in their order, then the counts."""

_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class Refused:
    """A counter that Postgres will not take."""

    counter: str
    count: int
    reason: str


def rows_of(counts: Mapping[str, int], keys: Keys) -> tuple[dict[str, Columns], list[Refused]]:
    """The rows by table, and the names that are no counters of ours.

    In the order of the names, which is the same in every flush: two of them that meet in the same
    rows wait for each other, and do not block each other for ever.
    """
    by_table: dict[str, Columns] = {
        table.name: [[] for _ in (*key_columns(table), "count")] for table in COUNTER_TABLES
    }
    add_day, add_type, add_user, add_count = (one.append for one in by_table[user_daily.name])
    of_users = f"{keys.prefix}user:"
    refused: list[Refused] = []
    for name in sorted(counts):
        count = counts[name]
        # Nearly all are of users, with nothing escaped in them: those are read without the parser.
        if name.startswith(of_users) and "%" not in name and name.isprintable():
            user_id, _, rest = name[len(of_users) :].partition(":")
            event_type, _, day = rest.partition(":")
            if user_id and event_type and _is_day(day):
                add_day(day)
                add_type(event_type)
                add_user(user_id)
                add_count(str(count))
                continue
        try:
            table, key = _row(keys.parse(name))
        except ValueError as error:
            refused.append(Refused(name, count, str(error)))
        else:
            for column, text in zip(by_table[table.name], (*key, str(count)), strict=True):
                column.append(text)
    return by_table, refused


@lru_cache(maxsize=1024)
def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _row(counter: Counter) -> tuple[Table, tuple[str, ...]]:
    """The table of a counter, and the row's primary key."""
    if isinstance(counter, DailyCounter):
        return daily, (counter.event_type, f"{counter.day}")
    if isinstance(counter, HourlyCounter):
        return hourly, (counter.event_type, counter.hour.isoformat())
    if isinstance(counter, UserCounter):
        return user_daily, (f"{counter.day}", counter.event_type, counter.user_id)
    if isinstance(counter, GapCounter):
        return event_log_gaps, (counter.event_type, counter.reason, counter.hour.isoformat())
    return dimension_daily, (
        f"{counter.day}",
        counter.event_type,
        counter.property,
        counter.value,
    )


def counter_name(table: Table, row: Sequence[str], keys: Keys) -> str:
    """The name of the counter that made the row, which begins with its primary key."""
    if table is daily:
        return keys.daily(row[0], row[1])
    if table is hourly:
        return keys.hourly(row[0], hour_text(datetime.fromisoformat(row[1])))
    if table is user_daily:
        return keys.user(row[2], row[1], row[0])
    if table is event_log_gaps:
        return keys.gap(row[0], row[1], hour_text(datetime.fromisoformat(row[2])))
    return keys.value(row[1], row[2], row[3], row[0])


def joined_columns(table: Table, columns: Columns) -> dict[str, Any]:
    """The parameters of the table's additive upsert."""
    by_name = dict(zip([*key_columns(table), "count"], columns, strict=True))
    joined = {name: _SEPARATOR.join(column) for name, column in by_name.items()}
    separator = _SEPARATOR
    if any(text.count(separator) != len(columns[0]) - 1 for text in joined.values()):
        separator = f"{_SEPARATOR}{secrets.token_hex(8)}"  # which nobody can have put into a name
        joined = {name: separator.join(column) for name, column in by_name.items()}
    return {**joined, "separator": separator}
