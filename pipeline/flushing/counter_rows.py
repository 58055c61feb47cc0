"""Which row a counter is stored in, and which counter made a row. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Table

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
from pipeline.redis.keys import Keys, hour_text, quarter_text

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


def counter_name(table: Table, row: Sequence[str], keys: Keys) -> str:
    """The name of the counter that made the row, which begins with its primary key."""
    return _NAMES[table](keys, row)


def _read_moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
