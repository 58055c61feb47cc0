"""`analytics stats users`, `active` and `retention`: how many people, as of the last flush."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.commands.stats.group import commands
from pipeline.cli.commands.stats.journeys import RetentionOfSteps, refusing
from pipeline.cli.context import open_services
from pipeline.cli.options import (
    Csv,
    Day,
    EventType,
    First,
    Json,
    Last,
    read_day,
    read_day_or_days,
    read_days,
)
from pipeline.cli.output import print_csv, print_json, print_table, say, warn
from pipeline.days import begin_month, today

if TYPE_CHECKING:
    from pipeline.reading.people.retention import Retention
    from pipeline.reading.people.users import Users
    from pipeline.services import Services

_COLUMNS = ("users", "new", "returning")
_COHORT_DAYS = {"day": 29, "week": 11 * 7, "month": 335}
"""How long before today the cohorts begin where no range is given."""
_PERIODS_SHOWN = 12


class Period(StrEnum):
    """The step of a series, or of cohorts."""

    day = "day"
    week = "week"
    month = "month"


Fresh = Annotated[bool, typer.Option("--fresh", help="Flush first.")]


@commands.command(epilog="Example: analytics stats users page_view --from 2026-01-01 --by week")
def users(  # noqa: PLR0913, PLR0917 - the arguments and options of the command
    event_types: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TYPE]…", help="Users who did one of these event types."),
    ] = None,
    of_any: Annotated[bool, typer.Option("--any", help="Users of any event type.")] = False,
    day: Day = None,
    first: First = None,
    last: Last = None,
    by: Annotated[
        Period | None, typer.Option("--by", help="Also one line for each day, week or month.")
    ] = None,
    fresh: Fresh = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Count distinct users: on one day, over a range, or today (UTC), as of the last flush.

    New users were not seen before the first day, in any of the event types; the others return. With
    --by, new are those not seen before the period. Weeks begin on Monday.
    """
    types = sorted(set(event_types or ()))
    if of_any == bool(types):
        raise typer.BadParameter("name event types, or give --any for all", param_hint="[TYPE]…")
    beginning, end = read_day_or_days(day, first, last)
    points: Sequence[tuple[date, Users]] = ()
    with open_services() as services:
        _flush_if(services, fresh)
        if by is None:
            total = services.stats.users(types, beginning, end)
        else:
            series = services.stats.users_by(types, beginning, end, by.value)
            total, points = series.total, series.points
        note = "" if total.users else services.absence.explain_no_users(types)
    if as_json:
        listed = [{"at": at.isoformat(), **_to_object(one)} for at, one in points]
        of_periods = {} if by is None else {"series": listed}
        print_json(_to_object(total) | of_periods | _describe(total.as_of, total.kept_since))
    elif as_csv:
        _print_users_as_csv(total, points, (beginning, end), by)
    else:
        title = f"Users of {', '.join(types) or 'any event'}"
        range_ = f"{beginning}" if beginning == end else f"{beginning} to {end}"
        rows = [(range_, *_count(total)), *((f"{at}", *_count(one)) for at, one in points)]
        print_table(title, [by.value if by else "days (UTC)", *_COLUMNS], rows)
        _say_as_of(total.as_of)
    _explain(note, total.kept_since)


def _print_users_as_csv(
    total: Users,
    points: Sequence[tuple[date, Users]],
    days: tuple[date, date],
    by: Period | None,
) -> None:
    if by is not None:
        print_csv(["at", *_COLUMNS], [(at, *_count(one)) for at, one in points])
        return
    as_of = total.as_of.isoformat() if total.as_of else None
    print_csv(["from", "to", *_COLUMNS, "as_of"], [(*days, *_count(total), as_of)])


@commands.command(epilog="Example: analytics stats active --date 2026-01-31")
def active(
    day: Day = None, fresh: Fresh = False, as_json: Json = False, as_csv: Csv = False
) -> None:
    """Count active users on a day (today, UTC), and in the 7 and 30 days that it ends.

    As of the last flush. Stickiness is the share of the users of 30 days who came on the day.
    """
    on = today() if day is None else read_day("--date", day)
    with open_services() as services:
        _flush_if(services, fresh)
        found = services.stats.active_users(on)
        note = "" if found.mau else services.absence.explain_no_users(())
    numbers = {
        "dau": found.dau,
        "wau": found.wau,
        "mau": found.mau,
        "stickiness": found.stickiness,
    }
    if as_json:
        print_json(numbers | _describe(found.as_of, found.kept_since))
    elif as_csv:
        as_of = found.as_of.isoformat() if found.as_of else None
        print_csv(["date", *numbers, "as_of"], [(on, *numbers.values(), as_of)])
    else:
        shown = "-" if found.stickiness is None else f"{found.stickiness:.2%}"
        rows = [
            ("the day", found.dau, shown),
            ("7 days", found.wau, ""),
            ("30 days", found.mau, ""),
        ]
        print_table(f"Active users, {on}", ["in", "users", "stickiness"], rows)
        _say_as_of(found.as_of)
    _explain(note, found.kept_since)


@commands.command(epilog="Example: analytics stats retention signup page_view --by week")
def retention(  # noqa: PLR0913, PLR0917 - the arguments and options of the command
    start: EventType,
    return_: Annotated[
        str, typer.Argument(metavar="RETURN", help="Event type that counts as coming back.")
    ],
    by: Annotated[Period, typer.Option("--by", help="The length of a period.")] = Period.day,
    first: First = None,
    last: Last = None,
    fresh: Fresh = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Count those who did TYPE in a period, and how many of them did RETURN so many periods later.

    As of the last flush; where either is TYPE[conditions], of the archive as of its last run.
    Period 0 is the same one. Without days, the last 30 days, 12 weeks or 12 months. Weeks begin on
    Monday; a period that the range cuts has the days within.
    """
    from pipeline.reading.journeys.steps import read_plain_types

    days = read_days(first, last) or _find_recent_days(by)
    with refusing():
        plain = read_plain_types(start, return_)
    if plain is None:
        ask = RetentionOfSteps((start, return_), by.value, days)
        ask.show(fresh=fresh, as_json=as_json, as_csv=as_csv)
        return
    with open_services() as services:
        _flush_if(services, fresh)
        found = services.stats.retention(*plain, by.value, *days)
        is_empty = not any(one.users for one in found.cohorts)
        note = services.absence.explain_no_users(plain[:1]) if is_empty else ""
    if as_json:
        cohorts = [
            {"start": one.start.isoformat(), "users": one.users, "returned": list(one.returned)}
            for one in found.cohorts
        ]
        print_json({"cohorts": cohorts} | _describe(found.as_of, found.kept_since))
    elif as_csv:
        rows = [
            (one.start, one.users, n, returned)
            for one in found.cohorts
            for n, returned in enumerate(one.returned)
        ]
        print_csv(["start", "users", "period", "returned"], rows)
    else:
        _print_cohorts(found, start, return_, by)
    _explain(note, found.kept_since)


def _print_cohorts(found: Retention, start: str, return_: str, by: Period) -> None:
    shown = min(len(found.cohorts), _PERIODS_SHOWN)
    rows = []
    for one in found.cohorts:
        returned = list(one.returned[:shown])
        rows.append((f"{one.start}", one.users, *returned, *[""] * (shown - len(returned))))
    columns = [by.value, "users", *map(str, range(shown))]
    print_table(f"{start}, then {return_} so many {by.value}s later", columns, rows)
    if len(found.cohorts) > shown:
        say(f"The first {shown} periods are shown; --json and --csv have all.")
    _say_as_of(found.as_of)


def _find_recent_days(by: Period) -> tuple[date, date]:
    end = today()
    begin = end - timedelta(days=_COHORT_DAYS[by])
    if by is Period.week:
        return begin - timedelta(days=begin.weekday()), end
    return begin_month(begin) if by is Period.month else begin, end


def _flush_if(services: Services, fresh: bool) -> None:
    if fresh:
        services.flush()


def _count(one: Users) -> tuple[int, int, int]:
    return one.users, one.new, one.returning


def _to_object(one: Users) -> dict[str, Any]:
    return dict(zip(_COLUMNS, _count(one), strict=True))


def _describe(as_of: datetime | None, kept_since: date | None) -> dict[str, str | None]:
    """What an answer is as of, and, where days were pruned, from which one on users are counted."""
    found = {"as_of": as_of.isoformat() if as_of else None}
    return found | ({"counted_from": kept_since.isoformat()} if kept_since else {})


def _say_as_of(as_of: datetime | None) -> None:
    if as_of is None:
        say("Nothing was flushed yet: add --fresh, or wait for the next flush.")
    else:
        say(f"As of the last flush, {as_of:%Y-%m-%d %H:%M:%S %Z}; --fresh flushes first.")


def _explain(note: str, kept_since: date | None) -> None:
    if kept_since is not None:
        warn(
            f"rows of users from before {kept_since} were pruned "
            "(ANALYTICS_COUNTERS_RETENTION_DAYS): users are counted from that day on"
        )
    if note:
        warn(note)
