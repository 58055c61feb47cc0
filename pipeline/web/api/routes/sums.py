"""Routes of the stats API about the numbers of properties: sums, percentiles, histograms."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from pipeline.days import count_days
from pipeline.errors import TooManyValues
from pipeline.options import CounterOptions
from pipeline.reading.stats import Stats
from pipeline.reading.sums import PERCENTILES, PropertySum
from pipeline.web.api.parameters import Absent, PropertyName
from pipeline.web.api.queries import CountQuery
from pipeline.web.api.response_models import TABLE, document_errors
from pipeline.web.api.table_responses import CsvTable, respond
from pipeline.web.api.threads import ThreadPools
from pipeline.web.errors import InvalidParameter

_MOST_QUARTER_DAYS = 100
_COLUMNS = ("sum", "count", "average", "not_numbers")


Summed = Annotated[
    bool, Field(description="false: its numbers are not summed; absent when they are")
]


class SumsQuery(CountQuery):
    """Numbers of a property in a range of days."""

    property: PropertyName = Field(description="A property named in ANALYTICS_SUM")


class SumQuery(SumsQuery):
    """A sum, and what it is made of."""

    by: Literal["day", "quarter_hour"] | Absent = Field(
        None, description="Also a sum for each day or quarter hour (UTC) with a value"
    )
    by_value: PropertyName | Absent = Field(
        None, description="Also by the value of this property, which ANALYTICS_COUNT_BY names"
    )
    limit: int = Field(100, ge=1, le=10_000, description="How many values to list")


class SumParts(BaseModel):
    """Numbers added up. Sum and average are decimal text, so that no digit is lost."""

    sum: str = Field(examples=["12.50"])
    count: int = Field(ge=0, description="How many numbers there were")
    average: str | None
    not_numbers: int = Field(ge=0, description="How many values were no numbers")


class SumOfValue(SumParts):
    """The events with one value."""

    value: str


class SumAt(SumParts):
    """A day or quarter hour."""

    at: str


class SumAnswer(SumParts):
    """The numbers of a property, exact and live."""

    event_type: str
    property: str
    summed: Summed = True
    counted: bool = Field(
        True, description="false: values of `by_value` are not counted; absent when they are"
    )
    as_of: None = Field(description="null: exact at this moment, flushed or not")
    series: list[SumAt] = Field([], description="With `by`")
    values: list[SumOfValue] = Field([], description="With `by_value`, the largest sum first")


class PercentilesAnswer(BaseModel):
    """Percentiles by nearest rank, at most 1 % off, exact and live; null without numbers."""

    event_type: str
    property: str
    summed: Summed = True
    p50: float | None
    p75: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    count: int
    as_of: None


class Bar(BaseModel):
    """Numbers of about one size."""

    low: float = Field(alias="from")
    high: float = Field(alias="to")
    count: int


class HistogramAnswer(BaseModel):
    """How many numbers there were of each size, exact and live."""

    event_type: str
    property: str
    summed: Summed = True
    bars: list[Bar]
    count: int
    as_of: None


def create_sum_routes(stats: Stats, threads: ThreadPools, options: CounterOptions) -> APIRouter:
    """The routes, which read `stats`; `options` say what is summed and counted."""
    router = APIRouter(tags=["sums"], responses=TABLE | document_errors(422))

    def head(query: SumsQuery) -> dict[str, Any]:
        found: dict[str, Any] = {"event_type": query.event_type, "property": query.property}
        if query.property not in options.sums.get(query.event_type, ()):
            found["summed"] = False
        return found

    @router.get("/stats/sum", response_model=SumAnswer)
    async def add_up(request: Request, query: Annotated[SumQuery, Query()]) -> Response:
        """The sum, the number and the average of a property's numbers."""
        _check(query)
        days = query.days()

        def read() -> Response:
            total = stats.sums.read_sum(query.event_type, query.property, *days)
            found = head(query) | total.describe() | {"as_of": None}
            try:
                key, name, parts = _read_parts(stats, query)
            except TooManyValues as error:
                raise InvalidParameter("from", str(error)) from error
            if query.by_value and query.by_value not in options.count_by.get(query.event_type, ()):
                found["counted"] = False
            if key:
                found[key] = [{name: at, **one.describe()} for at, one in parts]
                rows = [(at, *one.describe().values()) for at, one in parts]
                return respond(request, found, CsvTable("sum", (name, *_COLUMNS), rows))
            columns = ("event_type", "property", *_COLUMNS, "as_of")
            row = [found[column] for column in columns]
            return respond(request, found, CsvTable("sum", columns, [row]))

        if query.by_value is not None:
            return await threads.run_scan(request.state.key.id, read)
        return await threads.run_lookup(request.state.key.id, count_days(*days), read)

    @router.get("/stats/percentiles", response_model=PercentilesAnswer)
    async def percentiles(request: Request, query: Annotated[SumsQuery, Query()]) -> Response:
        """The median and other percentiles of a property's numbers."""
        days = query.days()

        def read() -> Response:
            spread = stats.sums.read_distribution(query.event_type, query.property, *days)
            named = {f"p{one}": spread.find_percentile(one) for one in PERCENTILES}
            found = head(query) | named | {"count": spread.count, "as_of": None}
            table = CsvTable("percentiles", ("percentile", "number"), list(named.items()))
            return respond(request, found, table)

        return await threads.run_lookup(request.state.key.id, count_days(*days), read)

    @router.get("/stats/histogram", response_model=HistogramAnswer)
    async def histogram(request: Request, query: Annotated[SumsQuery, Query()]) -> Response:
        """How many of a property's numbers there were of each size."""
        days = query.days()

        def read() -> Response:
            spread = stats.sums.read_distribution(query.event_type, query.property, *days)
            columns, bars = ("from", "to", "count"), spread.list_bars()
            found = head(query) | {
                "bars": [dict(zip(columns, bar, strict=True)) for bar in bars],
                "count": spread.count,
                "as_of": None,
            }
            return respond(request, found, CsvTable("histogram", columns, bars))

        return await threads.run_lookup(request.state.key.id, count_days(*days), read)

    return router


def _check(query: SumQuery) -> None:
    if query.by and query.by_value is not None:
        raise InvalidParameter("by", "cannot be given with by_value; ask twice")
    first, last = query.days()
    if query.by == "quarter_hour" and count_days(first, last) > _MOST_QUARTER_DAYS:
        raise InvalidParameter(
            "from",
            f"{first} is {count_days(first, last)} days before the end; ask for at most "
            f"{_MOST_QUARTER_DAYS} days at a time by quarter hour, or for by=day",
        )


def _read_parts(stats: Stats, query: SumQuery) -> tuple[str, str, list[tuple[str, PropertySum]]]:
    """What the sum is made of: the field of the answer, that of each part, and the parts."""
    names, days = (query.event_type, query.property), query.days()
    if query.by_value is not None:
        of_values = stats.sums.read_value_sums((*names, query.by_value), *days)
        return "values", "value", list(of_values.items())[: query.limit]
    if query.by is None:
        return "", "", []
    read = stats.sums.read_daily_sums if query.by == "day" else stats.sums.read_quarter_sums
    return "series", "at", [(at.isoformat(), one) for at, one in read(*names, *days).items()]
