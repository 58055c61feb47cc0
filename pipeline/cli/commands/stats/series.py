"""`analytics stats series`: counts by quarter hour, hour, day, week or month of a time zone."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.commands.stats.group import commands, explain, format_days
from pipeline.cli.context import open_services
from pipeline.cli.options import Csv, EventType, Json, read_days
from pipeline.cli.output import print_csv, print_json, print_table
from pipeline.errors import UnsuitableTimeZone

if TYPE_CHECKING:
    from pipeline.reading.series.reader import CountedPeriod, SeriesRequest


class By(StrEnum):
    """The step of a series."""

    quarter_hour = "quarter_hour"
    hour = "hour"
    day = "day"
    week = "week"
    month = "month"


class Compare(StrEnum):
    """What a range is compared with."""

    previous = "previous"
    year = "year"
    weekdays = "weekdays"


@commands.command(
    epilog="Example: analytics stats series page_view --from 2026-01-01 --to 2026-01-31 "
    "--by week --zone Asia/Kolkata"
)
def series(  # noqa: PLR0913, PLR0917 - the arguments and options of the command
    event_type: EventType,
    first: Annotated[
        str, typer.Option("--from", metavar="DATE", help="First day of the zone: YYYY-MM-DD.")
    ],
    last: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="DATE", help="Last day of the zone, included; today when left out."
        ),
    ] = None,
    by: Annotated[By, typer.Option("--by", help="The step from number to number.")] = By.day,
    zone: Annotated[
        str, typer.Option("--zone", metavar="ZONE", help="IANA name, such as Europe/Berlin.")
    ] = "UTC",
    compare: Annotated[
        Compare | None,
        typer.Option(
            help="Add the range before, the same days a year before, or the same weekdays 52 "
            "weeks before."
        ),
    ] = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Count the events of a type by quarter hour, hour, day, week or month of a time zone, zeros
    included."""
    wanted = _read_request(event_type, (first, last), by, zone, compare)
    with open_services() as services:
        try:
            found = services.stats.read_series(wanted)
        except UnsuitableTimeZone as error:
            raise typer.BadParameter(str(error), param_hint="--zone") from error
        note = "" if any(one.count for one in found) else services.absence.explain_type(event_type)
    if as_json:
        print_json(_to_object(wanted, found))
    elif as_csv:
        _print_rows(found)
    else:
        _print_table(wanted, found)
    explain(note)


def _read_request(
    event_type: str, days: tuple[str, str | None], by: By, zone: str, compare: Compare | None
) -> SeriesRequest:
    from pipeline.reading.series.periods import find_zone
    from pipeline.reading.series.reader import SeriesRequest, limit_days

    try:
        today = datetime.now(find_zone(zone)).date()
    except UnsuitableTimeZone as error:
        raise typer.BadParameter(str(error), param_hint="--zone") from None
    read = read_days(*days, end=today, most=limit_days(by.value, zone))
    assert read is not None  # --from is required
    wanted = SeriesRequest(
        event_type, *read, by.value, zone, None if compare is None else compare.value
    )
    try:
        wanted.ranges()
    except OverflowError:
        raise typer.BadParameter(
            "there is no range before that; leave it out", param_hint="--compare"
        ) from None
    return wanted


def _to_object(wanted: SeriesRequest, found: list[CountedPeriod]) -> dict[str, object]:
    listed = [[{"at": at, "count": n} for at, n in one.points] for one in found]
    compared = {"previous": listed[0], "compare": wanted.compared} if wanted.compared else {}
    return {"series": listed[-1], "by": wanted.granularity, "zone": wanted.time_zone, **compared}


def _print_rows(found: list[CountedPeriod]) -> None:
    if len(found) == 1:
        print_csv(["at", "count"], found[0].points)
        return
    names = ("previous", "current")
    rows = [(name, *point) for name, one in zip(names, found, strict=True) for point in one.points]
    print_csv(["period", "at", "count"], rows)


def _print_table(wanted: SeriesRequest, found: list[CountedPeriod]) -> None:
    column = f"{wanted.granularity.replace('_', ' ')} ({wanted.time_zone})"
    for period in found:
        title = f"{wanted.event_type}, {format_days(period.first, period.last)}"
        rows = [(_format_point(at, wanted.time_zone), n) for at, n in period.points]
        print_table(title, [column, "count"], rows)


def _format_point(at: str, zone: str) -> str:
    """Without seconds, and with the offset where it may change."""
    if "T" not in at:
        return at
    day, _, clock = at.partition("T")
    return f"{day} {clock[:5]}" if zone == "UTC" else f"{day} {clock[:5]} {clock[8:]}"
