"""`analytics types`: which event types there are, and letting go of junk ones."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.context import open_services
from pipeline.cli.options import Json
from pipeline.cli.output import one_line, print_json, print_table, say, warn
from pipeline.days import today

if TYPE_CHECKING:
    from pipeline.services import Services

_EXPLAINED = 5

commands = typer.Typer(rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(
        commands,
        name="types",
        help="List event types, the largest first; remove junk ones.",
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


Types = Annotated[list[str], typer.Argument(metavar="TYPE…", help="Event types, such as junk_17.")]


@commands.command(epilog="Example: analytics types remove junk_17 junk_18 --yes")
def remove(
    names: Types,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Make all events of junk types part of `__other__`: counts, books and archive; totals stay.

    Their events count as `__other__` for 30 days from now on. This cannot be undone. May be
    repeated. Counting goes on meanwhile; flush and archive wait.
    """
    if not yes:
        _confirm(names)
    with open_services() as services:
        removal = services.remove_types(names, today())
        notes = [] if removal.events or removal.archived else explain_types(services, names)
    if as_json:
        print_json({"events": removal.events, "archived": removal.archived})
    else:
        say(
            f"{removal.events:,} events counted, and {removal.archived:,} archived, are part of "
            "__other__ now."
        )
    for note in notes:
        warn(note)


@commands.command(epilog="Example: analytics types restore page_view")
def restore(names: Types, as_json: Json = False) -> None:
    """Count events of removed types under their own names again, from now on."""
    with open_services() as services:
        restored = services.restore_types(names, today())
        notes = [] if restored else ["none of these types was removed in the last 30 days"]
    if as_json:
        print_json({"restored": restored})
    else:
        say(f"{restored:,} types are counted under their own names again.")
    for note in notes:
        warn(note)


def explain_types(services: Services, names: list[str]) -> list[str]:
    """Why nothing was found of these types, a line each; of the first few."""
    return [services.absence.explain_type(name) for name in names[:_EXPLAINED]]


def _confirm(names: list[str]) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            "is needed where no terminal can be asked: a removal cannot be undone",
            param_hint="--yes",
        )
    shown = ", ".join(one_line(name, 60) for name in names[:10])
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    typer.confirm(f"Make all events of {shown}{more} part of __other__?", abort=True, err=True)
