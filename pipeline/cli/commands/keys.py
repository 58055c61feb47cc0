"""`analytics keys`: who may send events over HTTP, and who may read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import context
from pipeline.cli.options import Json
from pipeline.cli.output import one_line, print_json, print_table, say

if TYPE_CHECKING:
    from config.settings import Settings
    from pipeline.web.access import Access, AccessKey

FIRST_KEYS_FILE = "web-keys.json"

commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


class Kind(StrEnum):
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
    kind: Annotated[Kind, typer.Argument(help="write: to send events. read: to read counts.")],
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
    if kind is Kind.read and origin:
        raise typer.BadParameter("is for write keys; leave it out", param_hint="--origin")
    if kind is Kind.write and allow_forget:
        raise typer.BadParameter("is for read tokens; leave it out", param_hint="--allow-forget")
    with _opened() as access:
        key, shown = access.create(kind.value, name, origin or (), may_forget=allow_forget)
    if as_json:
        print_json({"key": shown, **_as_object(key)})
    else:
        say(shown)


@commands.command(name="list", epilog="Example: analytics keys list")
def list_(as_json: Json = False) -> None:
    """List all keys, the oldest first, without their secrets."""
    with _opened() as access:
        found = access.list()
    if as_json:
        print_json({"keys": [_as_object(key) for key in found]})
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
    with _opened() as access:
        key = access.revoke(key_id)
    if as_json:
        print_json(_as_object(key))
    else:
        say(f"Revoked: {key.id}.")


@dataclass(frozen=True)
class FirstKeys:
    """A write key that pages of any origin may use, a read token, and the file that holds them."""

    write: str = field(repr=False)
    read: str = field(repr=False)
    path: Path


def first_keys(settings: Settings) -> FirstKeys:
    """The keys that were made for the private Redis of the data directory when it was new; made
    now where it does not know them."""
    from pipeline.system.private_files import write_private

    path = settings.data_dir.absolute() / FIRST_KEYS_FILE
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        keys = FirstKeys(str(kept["write"]), str(kept["read"]), path)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        keys = None
    with _opened() as access:
        known = {key.id for key in access.list()}
        if keys is None or not {key.split("_")[1] for key in (keys.write, keys.read)} <= known:
            _, write = access.create("write", "made by analytics up", ["*"])
            _, read = access.create("read", "made by analytics up")
            keys = FirstKeys(write, read, path)
            text = json.dumps({"write": write, "read": read}, indent=2)
            write_private(path, text + "\n")
    return keys


@contextmanager
def _opened() -> Iterator[Access]:
    from pipeline.redis.client import redis_client
    from pipeline.redis.keys import Keys
    from pipeline.web.access import Access

    settings = context.load_settings()
    with redis_client(context.find_redis_url(settings)) as client:
        yield Access(client, Keys(settings.prefix))


def _as_object(key: AccessKey) -> dict[str, object]:
    return {
        "id": key.id,
        "kind": key.kind,
        "name": key.name,
        "origins": list(key.origins),
        "may_forget": key.may_forget,
        "created_at": key.created_at and key.created_at.isoformat(),
        "revoked_at": key.revoked_at and key.revoked_at.isoformat(),
    }
