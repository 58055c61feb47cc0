"""`analytics stats sum`, `percentiles` and `histogram`: the numbers of properties, exact at any
moment."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.commands.stats.group import commands
from pipeline.cli.context import open_services
from pipeline.cli.options import Csv, Day, EventType, First, Json, Last, read_day_or_days
from pipeline.cli.output import print_csv, print_json, print_table, warn

if TYPE_CHECKING:
    from datetime import date

    from pipeline.reading.sums import Distribution, PropertySum

_SUMMED = Annotated[
    str, typer.Argument(metavar="PROPERTY", help="A property named in ANALYTICS_SUM.")
]
_COLUMNS = ("sum", "count", "average", "not_numbers")


class Step(StrEnum):
    """The step of a series of sums."""

    day = "day"
    quarter_hour = "quarter_hour"


@commands.command(
    name="sum", epilog="Example: analytics stats sum sale total --by-value plan --from 2026-01-01"
)
def sum_(  # noqa: PLR0913, PLR0917 - the arguments and options of the command
    event_type: EventType,
    name: _SUMMED,
    by_value: Annotated[
        str | None,
        typer.Option(
            "--by-value",
            metavar="PROPERTY",
            help="Also by the value of this property, which ANALYTICS_COUNT_BY names.",
        ),
    ] = None,
    by: Annotated[
        Step | None, typer.Option("--by", help="Also a sum for each day or quarter hour (UTC).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many values to show.")] = 100,
    day: Day = None,
    first: First = None,
    last: Last = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Add up the numbers of a property: on one day, over a range, or today (UTC)."""
    days = read_day_or_days(day, first, last)
    if by and by_value is not None:
        raise typer.BadParameter("cannot be given with --by-value: ask twice", param_hint="--by")
    with open_services() as services:
        sums = services.stats.sums
        total = sums.read_sum(event_type, name, *days)
        parts: list[tuple[str, PropertySum]] = []
        if by_value is not None:
            of_values = sums.read_value_sums((event_type, name, by_value), *days)
            parts = list(of_values.items())[:limit]
        elif by is not None:
            read = sums.read_daily_sums if by is Step.day else sums.read_quarter_sums
            parts = [(at.isoformat(), one) for at, one in read(event_type, name, *days).items()]
        if not total.count:
            warn(services.absence.explain_sum(event_type, name))
        elif by_value is not None and not parts:
            warn(services.absence.explain_property(event_type, by_value, days[1]))
    if as_json:
        found = total.describe() | {"as_of": None}
        if by_value is not None:
            found["values"] = [{"value": value, **one.describe()} for value, one in parts]
        elif by is not None:
            found["series"] = [{"at": at, **one.describe()} for at, one in parts]
        print_json(found)
        return
    first_column = by_value or (by.value if by else "")
    rows = [(key, *one.describe().values()) for key, one in parts]
    if as_csv and first_column:
        print_csv([first_column, *_COLUMNS], rows)
    elif as_csv:
        print_csv(_COLUMNS, [tuple(total.describe().values())])
    else:
        rows.append(("all", *total.describe().values()))
        title = f"{name} of {event_type}, {days[0]} to {days[1]}"
        print_table(title, [first_column or "of", *_COLUMNS], rows)


@commands.command(epilog="Example: analytics stats percentiles time_on_page seconds")
def percentiles(  # noqa: PLR0913, PLR0917 - the arguments and options of the command
    event_type: EventType,
    name: _SUMMED,
    day: Day = None,
    first: First = None,
    last: Last = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """The median and other percentiles of the numbers of a property, at most 1 % off."""
    from pipeline.reading.sums import PERCENTILES

    days = read_day_or_days(day, first, last)
    found = _read_distribution(event_type, name, days)
    named = {f"p{percent}": found.find_percentile(percent) for percent in PERCENTILES}
    if as_json:
        print_json(named | {"count": found.count, "as_of": None})
    elif as_csv:
        print_csv(["percentile", "number"], list(named.items()))
    else:
        rows = [(percent, _show(number)) for percent, number in named.items()]
        title = f"{name} of {event_type}, {days[0]} to {days[1]}: {found.count:,} numbers"
        print_table(title, ["percentile", name], rows)


@commands.command(epilog="Example: analytics stats histogram time_on_page seconds --json")
def histogram(  # noqa: PLR0913, PLR0917 - the arguments and options of the command
    event_type: EventType,
    name: _SUMMED,
    day: Day = None,
    first: First = None,
    last: Last = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """How many numbers of a property there were of each size; sizes grow by 1 to 2 %."""
    days = read_day_or_days(day, first, last)
    found = _read_distribution(event_type, name, days)
    columns, bars = ("from", "to", "count"), found.list_bars()
    if as_json:
        listed = [dict(zip(columns, bar, strict=True)) for bar in bars]
        print_json({"bars": listed, "count": found.count, "as_of": None})
    elif as_csv:
        print_csv(columns, bars)
    else:
        rows = [(_show(low), _show(high), n) for low, high, n in bars]
        print_table(f"{name} of {event_type}, {days[0]} to {days[1]}", columns, rows)


def _read_distribution(event_type: str, name: str, days: tuple[date, date]) -> Distribution:
    with open_services() as services:
        found = services.stats.sums.read_distribution(event_type, name, *days)
        if not found.count:
            warn(services.absence.explain_sum(event_type, name))
    return found


def _show(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"
