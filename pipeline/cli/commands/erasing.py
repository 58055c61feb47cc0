"""`analytics forget`: remove a user; totals stay."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.context import load_settings, open_services
from pipeline.cli.options import Json
from pipeline.cli.output import print_json, say


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: analytics forget u1")(forget)


def forget(
    user_id: Annotated[str, typer.Argument(metavar="USER", help="The user's id, as it was sent.")],
    is_pseudonym: Annotated[
        bool,
        typer.Option("--pseudonym", help="USER is a pseudonym already, as rankings show it."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove a user from Redis, the tables and the archive; totals stay.

    With ANALYTICS_USER_ID_SECRET the user is found under the id as it was sent and under its
    pseudonym, whichever is given. Events of the user that are still on their way are dropped when
    they arrive. May be repeated.
    """
    from config import logging

    settings = load_settings()
    logging.configure(settings.log_level, settings.log_format)  # who was forgotten is logged
    with open_services() as services:
        erasure = services.erase_user(user_id, "the command line", is_pseudonym=is_pseudonym)
    if as_json:
        print_json(
            {
                "forgotten_at": erasure.erased_at.isoformat(),
                "counters": erasure.counters,
                "live_counters": erasure.live_counters,
                "stored_counters": erasure.stored_counters,
                "events": erasure.events,
                "dead_letters": erasure.dead_letters,
            }
        )
    elif erasure.is_empty:
        say(
            "Nothing is stored for this user: no counters, no archived events, no dead letters. "
            "Events still on their way are dropped when they arrive."
        )
    else:
        say(
            f"Forgotten: {erasure.live_counters:,} counters in Redis, "
            f"{erasure.stored_counters:,} stored ones and {erasure.dead_letters:,} dead letters "
            f"removed, {erasure.events:,} archived events name the user no longer."
        )
