"""`analytics types`: which event types there are."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.context import open_services
from pipeline.cli.options import Json
from pipeline.cli.output import print_json, print_table, say
from pipeline.days import today

commands = typer.Typer(rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(
        commands,
        name="types",
        help="List event types, the largest first.",
        epilog="Example: analytics types --limit 20",
    )


@commands.callback(invoke_without_command=True)
def types(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many to list.")] = 50,
    as_json: Json = False,
) -> None:
    """List event types, the largest first: events today (UTC), in all and not stored yet, and the
    first and last day of any."""
    if context.invoked_subcommand is not None:
        return
    with open_services() as services:
        found, how_many = services.list_types(today(), limit)
    if as_json:
        listed = [
            {
                "event_type": one.event_type,
                "today": one.today,
                "total": one.total,
                "unstored": one.unstored,
                "first_day": one.first_day.isoformat(),
                "last_day": one.last_day.isoformat(),
            }
            for one in found
        ]
        print_json({"types": listed, "more": how_many - len(listed)})
        return
    rows = [
        (one.event_type, one.today, one.total, one.unstored, f"{one.first_day}", f"{one.last_day}")
        for one in found
    ]
    columns = ["event type", "today", "in all", "not stored yet", "first day", "last day"]
    print_table("Event types", columns, rows)
    if how_many > len(found):
        say(f"… and {how_many - len(found):,} more; --limit shows more of them.")
