"""`analytics dead-letters`: look at what could not be counted, correct it, send it again, or drop
it."""

from __future__ import annotations

import json
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

Id = Annotated[str, typer.Argument(metavar="ID", help="An id, as `dead-letters list` shows it.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(
        commands,
        name="dead-letters",
        help="Look at what could not be counted; edit, replay or drop it.",
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


@commands.command(epilog="Example: analytics dead-letters show 1767225600000-0")
def show(letter_id: Id, as_json: Json = False) -> None:
    """Show a dead letter whole."""
    from pipeline.upkeep import dead_letters

    with open_services() as services:
        services.move_dead_letters()
        [letter] = dead_letters.find(services.engine, [letter_id])
    if as_json:
        print_json(_to_object(letter))
        return
    for name, value in _to_object(letter).items():
        if name != "body":
            say(f"{name}: {one_line(str(value or '-'), 1_000)}")
    try:
        say(json.dumps(json.loads(letter.body), indent=2))
    except ValueError:
        say(one_line(_decode_body(letter), 100_000))


@commands.command(
    epilog="Example: analytics dead-letters edit 1767225600000-0 --set event_type=sale"
)
def edit(
    letter_id: Id,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="A field and its JSON, or text: event_type=sale, properties.total=5.",
        ),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="A field to remove.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Correct a dead letter that is an event; `replay` then sends it.

    Without --set and --unset it opens in $VISUAL or $EDITOR. What is saved must be a valid event.
    One that is valid already keeps its event type and its id.
    """
    from pipeline.cli.commands.care.editor import change_fields, edit_in_editor
    from pipeline.upkeep import dead_letters
    from pipeline.upkeep.editing import read_fields, save_fields

    with open_services() as services:
        services.move_dead_letters()
        [letter] = dead_letters.find(services.engine, [letter_id])
        fields = read_fields(letter)
        if set_ or unset:
            edited = change_fields(fields, set_ or [], unset or [])
        else:
            edited = edit_in_editor(fields or _decode_body(letter), letter.reason)
        letter = save_fields(services.engine, letter, edited, read_user_id_secret())
    if as_json:
        print_json(_to_object(letter))
    else:
        say(f"Saved: {one_line(_decode_body(letter), 1_000)}")
        say(f"`analytics dead-letters replay {letter.id}` sends it.")


@commands.command(epilog="Example: analytics dead-letters replay 1767225600000-0")
def replay(ids: Ids, as_json: Json = False) -> None:
    """Send dead letters again, each once: one that was replayed is left alone.

    It is sent under its own event id, else under one made of the letter's id: where a replay was
    cut off before it was noted, the next one is recognised, within the duplicate window.
    """
    from pipeline.upkeep import dead_letters

    configure_producer()
    with open_services() as services:
        services.move_dead_letters()
        replayed = dead_letters.replay(services.engine, ids, _publish)
    if as_json:
        print_json({"replayed": replayed})
    else:
        before = len(ids) - replayed
        say(f"Sent again: {replayed:,}." + (f" Replayed before: {before:,}." if before else ""))


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
