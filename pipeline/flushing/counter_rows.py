"""Which row a counter is stored in, and which counter made a row. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Table

from pipeline.days import hour_text, quarter_text
from pipeline.flushing.claims import Fields
from pipeline.postgres.tables import (
    daily,
    dimension_daily,
    distributions,
    event_log_gaps,
    hourly,
    quarter_hourly,
    sums,
    user_daily,
    value_sums,
)
from pipeline.redis.counters import (
    BinCounter,
    DailyCounter,
    GapCounter,
    HourlyCounter,
    QuarterCounter,
    SumCounter,
    UserCounter,
    ValueCounter,
    ValueSumCounter,
)
from pipeline.redis.keys import Keys

Counts = defaultdict[tuple[Any, ...], dict[str, str]]
"""Counts by the last column of a table's key, by the table and the columns before it."""
Field = tuple[str, str]
"""The name of a field, and its count."""

_COUNT = re.compile("-?[0-9]{1,19}")

ROWS: Mapping[type, tuple[Table, Callable[[Any], tuple[Any, ...]]]] = {
    DailyCounter: (daily, attrgetter("event_type", "day")),
    HourlyCounter: (hourly, attrgetter("event_type", "hour")),
    UserCounter: (user_daily, attrgetter("day", "event_type", "user_id")),
    GapCounter: (event_log_gaps, attrgetter("event_type", "reason", "hour")),
    ValueCounter: (dimension_daily, attrgetter("day", "event_type", "property", "value")),
    QuarterCounter: (quarter_hourly, attrgetter("event_type", "quarter")),
    SumCounter: (sums, attrgetter("event_type", "property", "quarter", "part")),
    BinCounter: (distributions, attrgetter("event_type", "property", "day", "bin")),
    ValueSumCounter: (
        value_sums,
        attrgetter("day", "event_type", "property", "by", "value", "part"),
    ),
}
"""The table of a counter, and the primary key of its row."""


_NAMES: Mapping[Table, Callable[[Keys, Sequence[str]], str]] = {
    daily: lambda keys, row: keys.daily(row[0], row[1]),
    hourly: lambda keys, row: keys.hourly(row[0], hour_text(_read_moment(row[1]))),
    quarter_hourly: lambda keys, row: keys.quarterly(row[0], quarter_text(_read_moment(row[1]))),
    event_log_gaps: lambda keys, row: keys.gap(row[0], row[1], hour_text(_read_moment(row[2]))),
    user_daily: lambda keys, row: keys.user(row[2], row[1], row[0]),
    dimension_daily: lambda keys, row: keys.value(row[1], row[2], row[3], row[0]),
    sums: lambda keys, row: keys.sum(row[0], row[1], row[3], quarter_text(_read_moment(row[2]))),
    distributions: lambda keys, row: keys.bin(row[0], row[1], int(row[3]), row[2]),
    value_sums: lambda keys, row: keys.value_sum(
        ValueSumCounter(row[1], row[2], row[3], row[4], row[5], date.fromisoformat(row[0]))
    ),
}


@dataclass(frozen=True)
class Refused:
    """A counter that cannot be stored."""

    counter: str
    count: str
    reason: str


def counter_name(table: Table, row: Sequence[str], keys: Keys) -> str:
    """The name of the counter that made the row, which begins with its primary key."""
    return _NAMES[table](keys, row)


def _read_moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def add_unusual(found: Counts, refused: dict[str, Refused], keys: Keys, one: Field) -> None:
    """Add a field that has something escaped in it, or is none of ours. One that is written in
    another way than ours must not take the place of ours in the row of both."""
    name, count = keys.name_of(one[0]), one[1]
    try:
        counter = keys.parse(name)
    except ValueError as error:
        refused[name] = Refused(name, count, str(error))
        return
    table, key = ROWS[type(counter)]
    *head, last = map(str, key(counter))
    written = counter_name(table, [*head, last], keys)
    if written != name:
        refused[name] = Refused(name, count, f"the name of this counter is written {written!r}")
    elif not _COUNT.fullmatch(count):
        refused[name] = Refused(name, count, "the counter is not a whole number")
    else:
        found[(table, *head)][last] = count


def decode_each(page: Fields) -> tuple[list[str], list[str]]:
    """Names and counts of a page in which some have a space, as none of ours has."""
    names, counts = list(page), list(page.values())
    every = [text.decode(errors="surrogateescape") for text in names + counts]
    return every[: len(page)], every[len(page) :]
