"""Exact sums of the numbers of properties, and their distribution: live, flushed or not.

Counters of the sums that Redis holds are looked for first, and then read with what is stored in one
exact read. One that is made in between is of an event that came after the read began.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from math import ceil
from typing import Any

from sqlalchemy import Select, bindparam, func, literal_column, select

from pipeline.counting.increments import decode_value
from pipeline.days import bound_days
from pipeline.errors import TooManyValues
from pipeline.event.scale import bounds_of, middle_of
from pipeline.options import Sums
from pipeline.postgres.tables import distributions, sums, value_sums
from pipeline.reading.exact import ExactReader, Question, UnstoredCounts, with_ledger
from pipeline.reading.live_counters import find_measures
from pipeline.redis.counters import (
    COUNT,
    NOT_NUMBERS,
    BinCounter,
    SumCounter,
    ValueSumCounter,
    day_of,
)
from pipeline.redis.keys import (
    MEASURES,
    MEASURES_BY_VALUE,
    bin_head,
    escape,
    sum_head,
)

PERCENTILES = (50, 75, 90, 95, 99)
MOST_PARTS_OF_VALUES = 200_000
"""Of the sums by value that one answer reads: some fifty thousand values."""
_MORE_DECIMALS = 4
"""Of an average, beyond those of the numbers."""
_EXACT = Context(prec=100)
_DAY = func.timezone(literal_column("'UTC'"), sums.c.quarter).cast(distributions.c.date.type)


def _of_property(table: Any) -> Any:
    return (table.c.event_type == bindparam("event_type")) & (
        table.c.property == bindparam("property")
    )


def _of_days(column: Any) -> Any:
    return column.between(bindparam("first"), bindparam("last"))


_IN_TIME = (sums.c.quarter >= bindparam("begin")) & (sums.c.quarter < bindparam("end"))


def _sum_by(*columns: Any) -> str:
    rows: Select[Any] = select(*columns, sums.c.part, func.sum(sums.c.count))
    rows = rows.where(_of_property(sums), _IN_TIME).group_by(*columns, sums.c.part)
    return with_ledger(rows)


_SUMS = _sum_by()
_SUMS_OF_DAYS = _sum_by(_DAY)
_SUMS_OF_QUARTERS = _sum_by(sums.c.quarter)
_SUMS_OF_VALUES = with_ledger(
    select(value_sums.c.value, value_sums.c.part, func.sum(value_sums.c.count))
    .where(
        _of_property(value_sums),
        value_sums.c.by_property == bindparam("by"),
        _of_days(value_sums.c.date),
    )
    .group_by(value_sums.c.value, value_sums.c.part)
    .limit(literal_column(f"{MOST_PARTS_OF_VALUES + 1}"))
)
_BINS = with_ledger(
    select(distributions.c.bin, func.sum(distributions.c.count))
    .where(_of_property(distributions), _of_days(distributions.c.date))
    .group_by(distributions.c.bin)
)


@dataclass(frozen=True)
class PropertySum:
    """The numbers of a property, added up: how many there were, and how many values were none."""

    sum: Decimal = Decimal(0)
    count: int = 0
    not_numbers: int = 0

    @property
    def average(self) -> Decimal | None:
        """Rounded; None without numbers."""
        if not self.count:
            return None
        decimals = max(0, -int(self.sum.as_tuple().exponent))
        average = _EXACT.divide(self.sum, Decimal(self.count))
        found = average.quantize(Decimal(1).scaleb(-decimals - _MORE_DECIMALS), context=_EXACT)
        shortest = found.normalize(_EXACT)
        if -int(shortest.as_tuple().exponent) < decimals:
            return found.quantize(Decimal(1).scaleb(-decimals), context=_EXACT)
        return shortest if int(shortest.as_tuple().exponent) <= 0 else Decimal(int(shortest))

    def describe(self) -> dict[str, Any]:
        """JSON-ready; sum and average as decimal text, so that no digit is lost."""
        return {
            "sum": f"{self.sum:f}",
            "count": self.count,
            "average": None if self.average is None else f"{self.average:f}",
            "not_numbers": self.not_numbers,
        }


@dataclass(frozen=True)
class Distribution:
    """How many numbers of each size a property had, by bin: see `pipeline.event.scale`. `decimals`
    are those that were kept."""

    bins: Mapping[int, int] = field(default_factory=dict)
    decimals: int | None = None

    @property
    def count(self) -> int:
        """How many numbers there were."""
        return sum(self.bins.values())

    def find_percentile(self, percent: float) -> float | None:
        """The number that so many percent do not exceed (the nearest rank), at most 1 % off; None
        without numbers."""
        rank, below = max(1, ceil(percent / 100 * self.count)), 0
        for number in sorted(self.bins):
            below += self.bins[number]
            if below >= rank:
                return self._middle(number)
        return None

    def list_bars(self) -> list[tuple[float, float, int]]:
        """Each bin with numbers: its smallest and its largest size, and how many."""
        return [(*bounds_of(number), self.bins[number]) for number in sorted(self.bins)]

    def _middle(self, number: int) -> float:
        """The only number that the bin can hold, where that is so, else its middle."""
        if self.decimals is not None:
            low, high = (abs(one) * 10**self.decimals for one in bounds_of(number))
            low, high = min(low, high), max(low, high)
            first = ceil(low)
            if first < high <= first + 1:
                return float((first if number > 0 else -first) / 10**self.decimals)
        return float(f"{middle_of(number):.5g}")


Parts = Counter[str]
"""Counts by part: see `SumCounter`."""


class SumReader:
    """Reads sums and distributions. Days are UTC, ranges include both ends. Raises as
    `ExactReader`."""

    def __init__(self, unstored: UnstoredCounts, exact: ExactReader, sums: Sums) -> None:
        self._client, self._keys, self._exact = unstored.client, unstored.keys, exact
        self._sums = sums

    def read_sum(self, event_type: str, name: str, first: date, last: date) -> PropertySum:
        """The numbers of a property from `first` to `last`."""
        return self._read_sums(_SUMS, (event_type, name), (first, last), lambda _: ())[()]

    def read_daily_sums(
        self, event_type: str, name: str, first: date, last: date
    ) -> dict[date, PropertySum]:
        """The same of each day; days without a value are left out."""
        found = self._read_sums(
            _SUMS_OF_DAYS, (event_type, name), (first, last), lambda one: (day_of(one),)
        )
        return {day: of_day for (day,), of_day in sorted(found.items())}

    def read_quarter_sums(
        self, event_type: str, name: str, first: date, last: date
    ) -> dict[datetime, PropertySum]:
        """The same of each quarter hour (UTC)."""
        found = self._read_sums(
            _SUMS_OF_QUARTERS, (event_type, name), (first, last), lambda one: (one.quarter,)
        )
        return {at.astimezone(UTC): of_quarter for (at,), of_quarter in sorted(found.items())}

    def read_value_sums(
        self, names: tuple[str, str, str], first: date, last: date
    ) -> dict[str, PropertySum]:
        """The same by the value of a counted property of the same event, largest sum first: `names`
        are event type, summed property and counted property. Raises `TooManyValues`."""
        wanted = dict(zip(("event_type", "property", "by"), names, strict=True))
        place = MEASURES_BY_VALUE, f"sumby:{':'.join(map(escape, names))}"
        found: defaultdict[str, Parts] = defaultdict(Counter)
        for stored, (row, n) in enumerate(
            self._read(_SUMS_OF_VALUES, wanted, (first, last), place), start=1
        ):
            if stored > MOST_PARTS_OF_VALUES:
                raise TooManyValues(
                    f"{names[2]} has more values from {first} to {last} than can be added up in "
                    "one answer: ask for fewer days"
                )
            value, part = (row.value, row.part) if isinstance(row, ValueSumCounter) else row
            found[decode_value(value)][part] += n
        by_value = {value: add_up(parts) for value, parts in found.items()}
        return dict(sorted(by_value.items(), key=lambda one: (-one[1].sum, one[0])))

    def read_distribution(
        self, event_type: str, name: str, first: date, last: date
    ) -> Distribution:
        """How many numbers of each size the property had."""
        wanted = {"event_type": event_type, "property": name}
        bins: Counter[int] = Counter()
        place = MEASURES, bin_head(event_type, name)
        for row, n in self._read(_BINS, wanted, (first, last), place):
            [number] = (row.bin,) if isinstance(row, BinCounter) else row
            bins[number] += n
        decimals = self._sums.get(event_type, {}).get(name)
        return Distribution({number: n for number, n in bins.items() if n}, decimals)

    def _read_sums(
        self,
        statement: str,
        names: tuple[str, str],
        days: tuple[date, date],
        group: Callable[[Any], tuple[Any, ...]],
    ) -> defaultdict[tuple[Any, ...], PropertySum]:
        """The sums by what `group` says of a counter, as the statement's rows begin with it."""
        wanted = dict(zip(("event_type", "property"), names, strict=True))
        found: defaultdict[tuple[Any, ...], Parts] = defaultdict(Counter)
        for row, n in self._read(statement, wanted, days, (MEASURES, sum_head(*names))):
            *key, part = (*group(row), row.part) if isinstance(row, SumCounter) else row
            found[tuple(key)][part] += n
        return defaultdict(PropertySum, {key: add_up(parts) for key, parts in found.items()})

    def _read(
        self,
        statement: str,
        wanted: Mapping[str, Any],
        days: tuple[date, date],
        place: tuple[int, str],
    ) -> Iterator[tuple[Any, int]]:
        """What Redis holds under the `place` (a bucket, and what its fields begin with), by
        counter; and what Postgres has, by the columns of its rows."""
        rows: list[tuple[Any, ...]] = []

        def name(*row: Any) -> str:
            rows.append(row)
            return f"{len(rows) - 1}"

        live = find_measures(self._client, self._keys, *place)
        begin, end = bound_days(*days)
        in_time = {"first": days[0], "last": days[1], "begin": begin, "end": end}
        values = {name: in_time[name] for name in in_time if f"%({name})s" in statement}
        found = self._exact.read(Question(statement, {**wanted, **values}, name, sorted(live)))
        for key, n in found.items():
            if key not in live:
                yield rows[int(key)], int(n)
            elif days[0] <= day_of(counter := self._keys.parse(key)) <= days[1]:
                yield counter, int(n)


def add_up(parts: Mapping[str, int]) -> PropertySum:
    """The numbers of which these are the counts by part: see `SumCounter`."""
    total = Decimal(0)
    for part, n in parts.items():
        if part not in (COUNT, NOT_NUMBERS):
            total = _EXACT.add(total, Decimal(n).scaleb(int(part[1:]), _EXACT))
    return PropertySum(total, parts.get(COUNT, 0), parts.get(NOT_NUMBERS, 0))
