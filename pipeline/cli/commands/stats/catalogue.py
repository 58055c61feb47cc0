"""`analytics stats types` and `properties`: what was seen, how often and when last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.commands.stats.group import commands, explain
from pipeline.cli.context import open_services
from pipeline.cli.options import Csv, EventType, Json
from pipeline.cli.output import one_line, print_csv, print_json, print_table, say
from pipeline.days import today

if TYPE_CHECKING:
    from pipeline.reading.catalogue import PropertySummary, TypeProperties

Limit = Annotated[int, typer.Option(min=1, max=10_000, help="How many to list.")]


@commands.command(epilog="Example: analytics stats types --limit 20")
def types(limit: Limit = 50, as_json: Json = False, as_csv: Csv = False) -> None:
    """List event types, the largest first: how often each came, exact, and when last.

    The time is that of the newest event once it is archived, its quarter hour before.
    """
    with open_services() as services:
        found, how_many = services.list_types(today(), limit)
    rows = [(one.event_type, one.total, one.last.isoformat()) for one in found]
    more = how_many - len(rows)
    if as_json:
        listed = [{"event_type": name, "count": n, "last": last} for name, n, last in rows]
        print_json({"types": listed, "more": more, "as_of": None})
    elif as_csv:
        print_csv(["event_type", "count", "last"], rows)
    else:
        shown = [(one.event_type, one.total, f"{one.last:%Y-%m-%d %H:%M:%S}") for one in found]
        print_table("Event types", ["event type", "count", "last (UTC)"], shown)
        if more:
            say(f"… and {more:,} more; --limit shows more of them.")
    explain("" if rows else "no event was ever counted")


@commands.command(epilog="Example: analytics stats properties page_view --fresh")
def properties(
    event_type: EventType,
    limit: Limit = 50,
    fresh: Annotated[bool, typer.Option("--fresh", help="Archive and flush first.")] = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List the properties of an event type: how many archived events had each, when last, and its
    most frequent values.

    Values of counted properties are of the last 30 days; those of others, marked with ~, are of the
    newest 1,000 archived events.
    """
    with open_services() as services:
        if fresh:
            services.archive_events()
            services.flush()
        found = services.list_properties(event_type, today(), limit)
        note = "" if found.properties else services.absence.explain_properties(event_type)
    if as_json:
        print_json(found.to_object())
    elif as_csv:
        print_csv(found.COLUMNS, found.list_rows())
    else:
        _print_properties(event_type, found)
    explain(note)


def _print_properties(event_type: str, found: TypeProperties) -> None:
    rows = [
        (
            one.name,
            one.events,
            f"{one.last:%Y-%m-%d %H:%M:%S}" if one.last else "",
            one.counted,
            one.summed,
            _format_values(one),
        )
        for one in found.properties
    ]
    title = f"{event_type}, {found.events:,} events archived"
    print_table(
        title, ["property", "events", "last (UTC)", "counted", "summed", "most frequent"], rows
    )
    if found.more:
        say(f"… and {found.more:,} more; --limit shows more of them.")
    if found.since:
        say(f"Events archived before {found.since:%Y-%m-%d %H:%M %Z} are left out.")
    if found.as_of:
        say(f"As of the last archive run, {found.as_of:%Y-%m-%d %H:%M:%S %Z}; --fresh runs one.")


def _format_values(one: PropertySummary) -> str:
    mark = "" if one.counted else "~"
    return ", ".join(f"{one_line(value, 40)} ({mark}{n:,})" for value, n in one.values)
