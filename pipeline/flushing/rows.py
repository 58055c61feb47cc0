"""From counters to the rows of their tables, and back to a counter's name. Pure; no server.

Rows go to Postgres as columns of text, in the order of their keys: that is the same in every flush,
so that two which meet in the same rows wait for each other and do not block each other for ever.
And an index that is added to in its order grows in half the time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any

from sqlalchemy import Table

from pipeline.flushing.claims import Fields
from pipeline.postgres.tables import (
    daily,
    dimension_daily,
    event_log_gaps,
    hourly,
    key_columns,
    user_daily,
)
from pipeline.redis.keys import (
    DailyCounter,
    GapCounter,
    HourlyCounter,
    Keys,
    UserCounter,
    ValueCounter,
    hour_text,
    key_text,
)

Columns = Sequence[Sequence[str]]
"""Rows of a table: the columns of its primary key in their order, then the counts."""

Groups = defaultdict[tuple[str, ...], dict[str, str]]
"""Counts by the last column of a table's key, by the columns before it."""

_BETWEEN = b" "
"""Between fields that are decoded together: no field has a space, and it can be printed."""
_LONGEST_COUNT = 20


@dataclass(frozen=True)
class Refused:
    """A counter that cannot be stored."""

    counter: str
    count: str
    reason: str


_ROWS: Mapping[type, tuple[Table, Callable[[Any], tuple[Any, ...]]]] = {
    DailyCounter: (daily, attrgetter("event_type", "day")),
    HourlyCounter: (hourly, attrgetter("event_type", "hour")),
    UserCounter: (user_daily, attrgetter("day", "event_type", "user_id")),
    GapCounter: (event_log_gaps, attrgetter("event_type", "reason", "hour")),
    ValueCounter: (dimension_daily, attrgetter("day", "event_type", "property", "value")),
}
"""The table of a counter, and the primary key of its row."""


def rows_of(counts: Mapping[str, int], keys: Keys) -> tuple[dict[Table, Columns], list[Refused]]:
    """The rows of counters given by name, by table, and the names that are no counters of ours."""
    rows: defaultdict[Table, list[tuple[str, ...]]] = defaultdict(list)
    refused: list[Refused] = []
    for name, count in counts.items():
        try:
            counter = keys.parse(name)
        except ValueError as error:
            refused.append(Refused(name, str(count), str(error)))
        else:
            table, key = _ROWS[type(counter)]
            rows[table].append((*map(str, key(counter)), str(count)))
    columns: dict[Table, Columns] = {
        table: list(zip(*sorted(found), strict=True)) for table, found in rows.items()
    }
    return columns, refused


@dataclass
class FieldRows:
    """The rows of fields of buckets, no row twice however often its field came.

    Takes some 200 bytes of memory for a field.
    """

    keys: Keys
    users: Groups = field(default_factory=lambda: defaultdict(dict))
    """Counts by user, by (day, event type)."""
    values: Groups = field(default_factory=lambda: defaultdict(dict))
    """Counts by value, by (day, event type, property)."""
    refused: dict[str, Refused] = field(default_factory=dict)

    def add(self, page: Fields) -> None:
        """Add the fields of a page. Those that are no counters of ours, or whose count is no
        number, are `refused`."""
        text = key_text(_BETWEEN.join(page))
        is_plain = "%" not in text and text.isprintable()
        names, counts = text.split(" "), key_text(_BETWEEN.join(page.values())).split(" ")
        if not len(names) == len(counts) == len(page):
            names, counts = [key_text(one) for one in page], [key_text(n) for n in page.values()]
            is_plain = False
        users, values = self.users, self.values
        for name, count in zip(names, counts, strict=True):
            if is_plain and count.isdecimal() and len(count) < _LONGEST_COUNT:
                match name.split(":"):
                    case [user_id, event_type, day] if _is_day(day):
                        users[day, event_type][user_id] = count
                        continue
                    case [event_type, property_name, value, day] if _is_day(day):
                        values[day, event_type, property_name][value] = count
                        continue
            self._add_unusual(name, count)

    def count_days(self) -> dict[Table, Counter[str]]:
        """How many rows there are of each day, by table."""
        found: dict[Table, Counter[str]] = {user_daily: Counter(), dimension_daily: Counter()}
        for (day, *_), users in self.users.items():
            found[user_daily][day] += len(users)
        for (day, *_), values in self.values.items():
            found[dimension_daily][day] += len(values)
        return found

    def columns(self) -> dict[Table, Columns]:
        """The rows by table, in the order of their keys."""
        return {
            user_daily: _sorted_columns(user_daily, self.users),
            dimension_daily: _sorted_columns(dimension_daily, self.values),
        }

    def _add_unusual(self, name: str, count: str) -> None:
        """Add a field whose name has something escaped in it, or is none of ours."""
        counter_name = self.keys.name_of(name)
        try:
            counter = self.keys.parse(counter_name)
            int(count)
        except ValueError as error:
            self.refused[counter_name] = Refused(counter_name, count, str(error))
            return
        match counter:
            case UserCounter(user_id, event_type, day):
                self.users[f"{day}", event_type][user_id] = count
            case ValueCounter(event_type, property_name, value, day):
                self.values[f"{day}", event_type, property_name][value] = count


def _sorted_columns(table: Table, groups: Groups) -> Columns:
    columns: list[list[str]] = [[] for _ in (*key_columns(table), "count")]
    *heads, last, counts = columns
    for group, found in sorted(groups.items()):
        names = sorted(found)
        for column, text in zip(heads, group, strict=True):
            column += [text] * len(names)
        last += names
        counts += [found[name] for name in names]
    return columns


@lru_cache(maxsize=1024)
def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


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


def cut(columns: Columns, rows: int) -> Iterable[Columns]:
    """The rows in portions of so many."""
    for first in range(0, len(columns[0]), rows):
        yield [column[first : first + rows] for column in columns]
