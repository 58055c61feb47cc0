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

    Events of the user that are still on their way are dropped when they arrive. May be repeated.
    """
    from pipeline.event.pseudonyms import pseudonym

    secret = load_settings().user_id_secret
    kept = user_id
    if secret is not None and not is_pseudonym:
        kept = pseudonym(secret.get_secret_value(), user_id)
    with open_services() as services:
        erasure = services.erase_user(kept)
    if as_json:
        print_json(
            {
                "forgotten_at": erasure.erased_at.isoformat(),
                "counters": erasure.counters,
                "events": erasure.events,
                "dead_letters": erasure.dead_letters,
            }
        )
    else:
        say(
            f"Forgotten: {erasure.counters:,} counters and {erasure.dead_letters:,} dead letters "
            f"removed, {erasure.events:,} archived events name the user no longer."
        )
