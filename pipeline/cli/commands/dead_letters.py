"""`analytics dead-letters`: look at what could not be counted, send it again, or drop it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.context import configure_producer, open_services, read_user_id_secret
from pipeline.cli.options import Json
from pipeline.cli.output import one_line, print_json, print_table, say

if TYPE_CHECKING:
    from pipeline.upkeep.dead_letters import DeadLetter

commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Ids = Annotated[
    list[str], typer.Argument(metavar="ID...", help="Ids, as `dead-letters list` shows them.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(
        commands,
        name="dead-letters",
        help="Look at what could not be counted; replay or drop it.",
        epilog="Example: analytics dead-letters list",
    )


@commands.command(name="list", epilog="Example: analytics dead-letters list --limit 20")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 100,
    as_json: Json = False,
) -> None:
    """List dead letters, newest first, each with the reason why it was not counted."""
    from pipeline.upkeep import dead_letters

    with open_services() as services:
        services.move_dead_letters()
        letters = dead_letters.list_stored(services.engine, limit)
    if as_json:
        print_json({"dead_letters": [_to_object(letter) for letter in letters]})
        return
    rows = [
        (
            letter.id,
            letter.created_at.strftime("%Y-%m-%d %H:%M:%S"),
            letter.replayed_at.strftime("%Y-%m-%d %H:%M:%S") if letter.replayed_at else "",
            letter.reason,
            one_line(_decode_body(letter), 60),
        )
        for letter in letters
    ]
    columns = ["id", "when (UTC)", "replayed (UTC)", "reason", "what came"]
    print_table("Dead letters", columns, rows)


@commands.command(epilog="Example: analytics dead-letters replay 1767225600000-0")
def replay(ids: Ids, as_json: Json = False) -> None:
    """Send dead letters again. One that was counted already is not counted twice.

    It is sent under its own event id, else under one made of the letter's id, so this holds within
    the duplicate window.
    """
    from pipeline.upkeep import dead_letters

    configure_producer()
    with open_services() as services:
        services.move_dead_letters()
        replayed = dead_letters.replay(services.engine, ids, _publish)
    if as_json:
        print_json({"replayed": replayed})
    else:
        say(f"Sent again: {replayed:,}.")


@commands.command(epilog="Example: analytics dead-letters drop 1767225600000-0")
def drop(ids: Ids, as_json: Json = False) -> None:
    """Delete dead letters for good."""
    from pipeline.upkeep import dead_letters

    with open_services() as services:
        services.move_dead_letters()
        dropped = dead_letters.drop(services.engine, ids)
    if as_json:
        print_json({"dropped": dropped})
    else:
        say(f"Dropped: {dropped:,}.")


def _publish(letter: DeadLetter) -> None:
    from pipeline.upkeep.replaying import publish_again

    publish_again(letter, read_user_id_secret())


def _to_object(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "kind": letter.kind,
        "reason": letter.reason,
        "body": _decode_body(letter),
        "created_at": letter.created_at.isoformat(),
        "replayed_at": letter.replayed_at.isoformat() if letter.replayed_at else None,
    }


def _decode_body(letter: DeadLetter) -> str:
    return letter.body.decode(errors="backslashreplace")
