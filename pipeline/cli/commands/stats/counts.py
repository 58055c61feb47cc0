"""`analytics stats count`, `hourly`, `user`, `property` and `top`: counts, exact at any
moment, and rankings as of the last flush."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.commands.stats.group import commands, explain, format_days
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
from pipeline.cli.output import print_csv, print_json, print_table, say
from pipeline.days import today

if TYPE_CHECKING:
    from pipeline.services import Services


@commands.command(
    epilog="Example: analytics stats count page_view --from 2026-01-01 --to 2026-01-31"
)
def count(
    event_type: EventType,
    day: Day = None,
    first: First = None,
    last: Last = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Count the events of a type: on one day, over a range, or today (UTC)."""
    beginning, end = read_day_or_days(day, first, last)
    with open_services() as services:
        counted = services.stats.count(event_type, beginning, end)
        note = "" if counted else services.absence.explain_type(event_type)
    if as_json:
        print_json({"count": counted})
    elif as_csv:
        columns = ["event_type", "from", "to", "count"]
        print_csv(columns, [(event_type, beginning, end, counted)])
    else:
        print_table(format_days(beginning, end), ["event type", "count"], [(event_type, counted)])
    explain(note)


@commands.command(epilog="Example: analytics stats hourly page_view --date 2026-01-31")
def hourly(
    event_type: EventType,
    day: Annotated[str, typer.Option("--date", metavar="DATE", help="The day, UTC: YYYY-MM-DD.")],
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Count the events of a type in each of the 24 hours (UTC) of a day."""
    on = read_day("--date", day)
    with open_services() as services:
        counts = list(services.stats.hourly_counts(event_type, on))
        note = "" if any(counts) else services.absence.explain_type(event_type)
    if as_json:
        print_json({"counts": counts})
        explain(note)
        return
    hours = [(f"{hour:02d}:00", counted) for hour, counted in enumerate(counts)]
    if as_csv:
        print_csv(["hour", "count"], hours)
    else:
        print_table(f"{event_type}, {on}", ["hour (UTC)", "count"], hours)
    explain(note)


@commands.command(epilog="Example: analytics stats user u1 --from 2026-01-01 --to 2026-01-31")
def user(
    user_id: Annotated[str, typer.Argument(metavar="USER", help="The user's id.")],
    first: First = None,
    last: Last = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Count one user's events by type and day; of all time when no days are given."""
    from pipeline.reading.stats import keep_largest

    beginning, end = read_days(first, last) or (None, None)
    with open_services() as services:
        forms = services.list_user_forms(user_id)
        counts, more = keep_largest(services.stats.counts_of_user(forms, beginning, end))
        explain("" if counts else services.absence.explain_user(user_id))
    if as_json:
        listed = {
            event_type: {day.isoformat(): n for day, n in sorted(by_day.items())}
            for event_type, by_day in sorted(counts.items())
        }
        print_json({"counts": listed} | ({"more_types": more} if more else {}))
        return
    rows = [
        (event_type, day.isoformat(), n)
        for event_type, by_day in sorted(counts.items())
        for day, n in sorted(by_day.items())
    ]
    if as_csv:
        print_csv(["event_type", "date", "count"], rows)
        return
    print_table(f"user {user_id}", ["event type", "day (UTC)", "count"], rows)
    if more:
        say(f"… and {more:,} event types with fewer events.")


@commands.command(
    name="property",
    epilog="Example: analytics stats property page_view path /pricing --from 2026-01-01",
)
def property_(  # noqa: PLR0913, PLR0917 - the arguments and options of the command
    event_type: EventType,
    name: Annotated[
        str, typer.Argument(metavar="PROPERTY", help="A property named in ANALYTICS_COUNT_BY.")
    ],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="The property's value.")],
    first: First = None,
    last: Last = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Count the events of a type whose property has a value; today when no days are given."""
    beginning, end = read_day_or_days(None, first, last)
    with open_services() as services:
        counted = services.stats.property_count(event_type, name, value, beginning, end)
        note = "" if counted else services.absence.explain_property(event_type, name, today())
    if as_json:
        print_json({"count": counted})
    elif as_csv:
        columns = ["event_type", "property", "value", "from", "to", "count"]
        print_csv(columns, [(event_type, name, value, beginning, end, counted)])
    else:
        title = f"{event_type}, {format_days(beginning, end)}"
        print_table(title, [name, "count"], [(value, counted)])
    explain(note)


@commands.command(epilog="Example: analytics stats top page_view path --limit 20 --fresh")
def top(  # noqa: PLR0913, PLR0917 - the arguments and options of the command
    event_type: EventType,
    of: Annotated[
        str,
        typer.Argument(
            metavar="user|PROPERTY", help="`user`, or a property named in ANALYTICS_COUNT_BY."
        ),
    ],
    first: First = None,
    last: Last = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many to show.")] = 10,
    fresh: Annotated[bool, typer.Option("--fresh", help="Flush first.")] = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Rank users or a property's values by their events, as of the last flush."""
    beginning, end = read_days(first, last) or (None, None)
    with open_services() as services:
        if fresh:
            services.flush()
        ranking = services.stats.top(event_type, of, beginning, end, limit)
        if not ranking.top:
            explain(_explain_ranking(services, event_type, of))
    as_of = ranking.as_of
    if as_json:
        listed = [{"value": value, "count": n} for value, n in ranking.top]
        print_json({"top": listed, "as_of": as_of.isoformat() if as_of else None})
        return
    if as_csv:
        print_csv(["value", "count"], ranking.top)
        return
    rows = [(rank, value, n) for rank, (value, n) in enumerate(ranking.top, start=1)]
    print_table(f"{event_type} by {of}", ["rank", of, "count"], rows)
    if as_of is None:
        say("Nothing was flushed yet: add --fresh, or wait for the next flush.")
    else:
        say(f"As of the last flush, {as_of:%Y-%m-%d %H:%M:%S %Z}; --fresh flushes first.")


def _explain_ranking(services: Services, event_type: str, of: str) -> str:
    if of == "user":
        return services.absence.explain_users(event_type)
    return services.absence.explain_property(event_type, of, today())
