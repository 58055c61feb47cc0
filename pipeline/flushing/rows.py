"""From counters to the rows of their tables, and back to a counter's name. Pure; no server.

Rows go to Postgres as columns of text, in the order of their keys: that is the same in every flush,
so that two which meet in the same rows wait for each other and do not block each other for ever.
And an index that is added to in its order grows in half the time.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
)

Columns = Sequence[Sequence[str]]
"""Rows of a table: the columns of its primary key in their order, then the counts."""

Rows = Sequence[tuple[Table, Columns]]
"""By table, which may come twice."""
Groups = defaultdict[tuple[Any, ...], dict[str, str]]
"""Counts by the last column of a table's key, by the table and the columns before it."""
Field = tuple[str, str]
"""The name of a field, and its count."""

_BETWEEN = b" "
"""Between fields that are decoded together: no field has a space, and it can be printed."""
_LONGEST_COUNT = 20
_COUNT = re.compile("-?[0-9]{1,19}")
_NOT_PLAIN = re.compile("[%{}]")


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


def rows_of(counts: Mapping[str, int], keys: Keys) -> tuple[Rows, list[Refused]]:
    """The rows of counters given by name, and the names that are no counters of ours."""
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
    return [
        (table, list(zip(*sorted(found), strict=True))) for table, found in rows.items()
    ], refused


def rows_of_fields(pages: Iterable[Fields], keys: Keys) -> tuple[Rows, list[Refused]]:
    """The rows of fields of buckets, no row twice however often its field comes; and the fields
    that are no counters of ours, or whose count is no number.

    Takes some 200 bytes of memory for a field.
    """
    groups: Groups = defaultdict(dict)
    refused: dict[str, Refused] = {}
    for page in pages:
        text, numbers = _text(_BETWEEN.join(page)), _text(_BETWEEN.join(page.values()))
        names, counts = text.split(" "), numbers.split(" ")
        # Most names have nothing escaped in them, and nothing that is not allowed.
        is_plain = text.isprintable() and numbers.isascii() and not _NOT_PLAIN.search(text)
        if not len(names) == len(counts) == len(page):
            names, counts = [_text(one) for one in page], [_text(n) for n in page.values()]
            is_plain = False
        for name, count in zip(names, counts, strict=True):
            if is_plain and count.isdecimal() and len(count) < _LONGEST_COUNT:
                match name.split(":"):
                    case [user_id, event_type, day] if _is_day(day):
                        groups[user_daily, day, event_type][user_id] = count
                        continue
                    case [event_type, property_name, value, day] if _is_day(day):
                        groups[dimension_daily, day, event_type, property_name][value] = count
                        continue
            _add_unusual(groups, refused, keys, (name, count))
    return _sorted_rows(groups), list(refused.values())


def _add_unusual(groups: Groups, refused: dict[str, Refused], keys: Keys, one: Field) -> None:
    """Add a field that has something escaped in it, or is none of ours. One that is written in
    another way than ours must not take the place of ours in the row of both."""
    name, count = keys.name_of(one[0]), one[1]
    try:
        counter = keys.parse(name)
    except ValueError as error:
        refused[name] = Refused(name, count, str(error))
        return
    table, key = _ROWS[type(counter)]
    *head, last = map(str, key(counter))
    written = counter_name(table, [*head, last], keys)
    if written != name:
        refused[name] = Refused(name, count, f"the name of this counter is written {written!r}")
    elif not _COUNT.fullmatch(count):
        refused[name] = Refused(name, count, "the counter is not a whole number")
    else:
        groups[table, *head][last] = count


def _text(found: bytes) -> str:
    # Not `key_text`, which remembers what it is given: here that is whole pages.
    return found.decode(errors="surrogateescape")


def _sorted_rows(groups: Groups) -> Rows:
    rows: dict[Table, list[list[str]]] = {}
    for (table, *head), found in sorted(groups.items(), key=lambda one: one[0][1:]):
        columns = rows.setdefault(table, [[] for _ in (*head, "last", "count")])
        names = sorted(found)
        for column, text in zip(columns, head, strict=False):
            column += [text] * len(names)
        columns[-2] += names
        columns[-1] += map(found.__getitem__, names)
    return list(rows.items())


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
