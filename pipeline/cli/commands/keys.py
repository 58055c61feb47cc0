"""`analytics keys`: who may send events over HTTP, and who may read."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.context import open_access
from pipeline.cli.options import Json
from pipeline.cli.output import one_line, print_json, print_table, say

if TYPE_CHECKING:
    from pipeline.access.access_key import AccessKey

commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


class KeyKind(StrEnum):
    """What a key is for."""

    write = "write"
    read = "read"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(
        commands,
        name="keys",
        help="Make, list and revoke write keys of the collector and read tokens of the API.",
        epilog="Example: analytics keys create write --name shop --origin https://shop.example",
    )


@commands.command(
    epilog="Example: analytics keys create write --name shop --origin https://shop.example"
)
def create(
    kind: Annotated[KeyKind, typer.Argument(help="write: to send events. read: to read counts.")],
    name: Annotated[str, typer.Option(help="What it is for, for people.")] = "",
    origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Web pages that may use a write key, such as https://shop.example; may be "
            "repeated; * for any. Servers need none.",
        ),
    ] = None,
    allow_forget: Annotated[
        bool, typer.Option("--allow-forget", help="A read token that may also forget users.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a write key or a read token and show it, this once.

    Only a hash of it is stored.
    """
    if kind is KeyKind.read and origin:
        raise typer.BadParameter("is for write keys; leave it out", param_hint="--origin")
    if kind is KeyKind.write and allow_forget:
        raise typer.BadParameter("is for read tokens; leave it out", param_hint="--allow-forget")
    with open_access() as access:
        key, shown = access.create(kind.value, name, origin or (), may_forget=allow_forget)
    if as_json:
        print_json({"key": shown, **_to_object(key)})
    else:
        say(shown)


@commands.command(name="list", epilog="Example: analytics keys list")
def list_(as_json: Json = False) -> None:
    """List all keys, the oldest first, without their secrets."""
    with open_access() as access:
        found = access.list()
    if as_json:
        print_json({"keys": [_to_object(key) for key in found]})
        return
    rows = [
        (
            key.id,
            key.kind + (", may forget" if key.may_forget else ""),
            one_line(key.name, 40),
            " ".join(key.origins),
            key.created_at.strftime("%Y-%m-%d %H:%M:%S") if key.created_at else "",
            key.revoked_at.strftime("%Y-%m-%d %H:%M:%S") if key.revoked_at else "",
        )
        for key in found
    ]
    print_table("Keys", ["id", "for", "name", "origins", "made (UTC)", "revoked (UTC)"], rows)


@commands.command(epilog="Example: analytics keys revoke 3f9c2a7be001")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id, as `keys list` shows it.")],
    as_json: Json = False,
) -> None:
    """Have a key refused from now on; every web server knows within five seconds."""
    with open_access() as access:
        key = access.revoke(key_id)
    if as_json:
        print_json(_to_object(key))
    else:
        say(f"Revoked: {key.id}.")


def _to_object(key: AccessKey) -> dict[str, object]:
    return {
        "id": key.id,
        "kind": key.kind,
        "name": key.name,
        "origins": list(key.origins),
        "may_forget": key.may_forget,
        "created_at": key.created_at and key.created_at.isoformat(),
        "revoked_at": key.revoked_at and key.revoked_at.isoformat(),
    }
