"""`analytics keys`: who may send events over HTTP, and who may read."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.context import open_access
from pipeline.cli.options import Json
from pipeline.cli.output import one_line, print_json, print_table, say

if TYPE_CHECKING:
    from pipeline.access.access_key import AccessKey

_AGE = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_RATE = re.compile(r"[0-9]{1,9}")

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
        help="Make, list, change and revoke write keys of the collector, read tokens of the API.",
        epilog="Example: analytics keys create write --name shop --origin https://shop.example",
    )


Origin = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ORIGIN",
        help="Web pages that may use a write key, such as https://shop.example; may be repeated; "
        "* for any. Servers need none.",
    ),
]
EventTypes = Annotated[
    list[str] | None,
    typer.Option(
        "--event-type",
        metavar="TYPE",
        help="Event types that a write key may send, as the client names them; may be repeated. "
        "Any, when left out.",
    ),
]
MaxAge = Annotated[
    str | None,
    typer.Option(
        metavar="AGE",
        help="Greatest age of an event, such as 90s, 15m, 1h or 7d; any: of any age. 7d for a new "
        "key with origins, any for others.",
    ),
]
EventsPerS = Annotated[
    str | None,
    typer.Option(
        metavar="RATE",
        help="Events a second, averaged over ten; 0: any number; default: as the settings say.",
    ),
]


@commands.command(
    epilog="Example: analytics keys create write --name shop --origin https://shop.example "
    "--event-type page_view --event-type click --max-age 1h --events-per-s 100"
)
def create(  # noqa: PLR0913, PLR0917 - the arguments and options of the command
    kind: Annotated[KeyKind, typer.Argument(help="write: to send events. read: to read counts.")],
    name: Annotated[str, typer.Option(help="What it is for, for people.")] = "",
    origin: Origin = None,
    event_type: EventTypes = None,
    max_age: MaxAge = None,
    events_per_s: EventsPerS = None,
    source: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Source of the event ids: keys that name the same one recognise each other's. "
            "When left out a key with origins has its own, and others share that of `.delay()`.",
        ),
    ] = "",
    allow_forget: Annotated[
        bool, typer.Option("--allow-forget", help="A read token that may also forget users.")
    ] = False,
    allow_operate: Annotated[
        bool,
        typer.Option(
            "--allow-operate",
            help="A read token that may also flush, archive and audit, and replay or drop dead "
            "letters.",
        ),
    ] = False,
    allow_edit: Annotated[
        bool,
        typer.Option(
            "--allow-edit", help="A read token that may also edit annotations and saved views."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a write key or a read token and show it, this once.

    Only a hash of it is stored.
    """
    from pipeline.access.access_key import PAGE_KEY_MAX_AGE_S, KeyScope

    given = {
        "--origin": origin,
        "--event-type": event_type,
        "--max-age": max_age,
        "--events-per-s": events_per_s,
        "--source": source,
    }
    for option, value in given.items():
        if kind is KeyKind.read and value:
            raise typer.BadParameter("is for write keys; leave it out", param_hint=option)
    rights = {"forget": allow_forget, "operate": allow_operate, "edit": allow_edit}
    for right, allowed in rights.items():
        if kind is KeyKind.write and allowed:
            hint = f"--allow-{right}"
            raise typer.BadParameter("is for read tokens; leave it out", param_hint=hint)
    scope = KeyScope(
        source,
        tuple(dict.fromkeys(event_type or ())),
        _read_age(max_age) if max_age else PAGE_KEY_MAX_AGE_S if origin else None,
        _read_rate(events_per_s) if events_per_s else None,
    )
    with open_access() as access:
        key, shown = access.create(
            kind.value,
            name,
            origin or (),
            scope=scope,
            may_forget=allow_forget,
            may_operate=allow_operate,
            may_edit=allow_edit,
        )
    if as_json:
        print_json({"key": shown, **_to_object(key)})
    else:
        say(shown)


@commands.command(
    epilog="Example: analytics keys change 3f9c2a7be001 --max-age 7d --events-per-s 500"
)
def change(  # noqa: PLR0913, PLR0917 - the arguments and options of the command
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id, as `keys list` shows it.")],
    origin: Origin = None,
    event_type: EventTypes = None,
    any_event_type: Annotated[
        bool, typer.Option("--any-event-type", help="Let the key send events of any type again.")
    ] = False,
    max_age: MaxAge = None,
    events_per_s: EventsPerS = None,
    as_json: Json = False,
) -> None:
    """Change what a write key may send; every web server knows within five seconds.

    What an option names replaces what the key had; the rest stays.
    """
    from pipeline.access.access_key import change_key

    if any_event_type and event_type:
        raise typer.BadParameter(
            "cannot be given together with --any-event-type; leave one of them out",
            param_hint="--event-type",
        )
    changes: dict[str, Any] = {}
    if origin:
        changes["origins"] = tuple(dict.fromkeys(origin))
    if event_type or any_event_type:
        changes["event_types"] = tuple(dict.fromkeys(event_type or ()))
    if max_age:
        changes["max_age_s"] = _read_age(max_age)
    if events_per_s:
        changes["events_per_s"] = _read_rate(events_per_s)
    if not changes:
        raise typer.BadParameter(
            "nothing to change: give --origin, --event-type, --any-event-type, --max-age or "
            "--events-per-s"
        )
    with open_access() as access:
        key = access.change(key_id, lambda key: change_key(key, changes))
    if as_json:
        print_json(_to_object(key))
    else:
        say(f"Changed: {key.id} ({_describe_scope(key) or 'no limits of its own'}).")


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
            ", ".join([key.kind, *_list_rights(key)]),
            one_line(key.name, 40),
            " ".join(key.origins),
            one_line(_describe_scope(key), 200),
            key.created_at.strftime("%Y-%m-%d %H:%M:%S") if key.created_at else "",
            key.revoked_at.strftime("%Y-%m-%d %H:%M:%S") if key.revoked_at else "",
        )
        for key in found
    ]
    columns = ["id", "for", "name", "origins", "may send", "made (UTC)", "revoked (UTC)"]
    print_table("Keys", columns, rows)


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
        "may_operate": key.may_operate,
        "may_edit": key.may_edit,
        "event_types": list(key.event_types),
        "max_age_s": key.max_age_s,
        "events_per_s": key.events_per_s,
        "source": key.id_source if key.kind == "write" else None,
        "created_at": key.created_at and key.created_at.isoformat(),
        "revoked_at": key.revoked_at and key.revoked_at.isoformat(),
    }


def _list_rights(key: AccessKey) -> list[str]:
    """What a read token may do beside reading, for people."""
    rights = {
        "may forget": key.may_forget,
        "may operate": key.may_operate,
        "may edit": key.may_edit,
    }
    return [right for right, allowed in rights.items() if allowed]


def _describe_scope(key: AccessKey) -> str:
    """What limits a write key, for people; empty when nothing of its own does."""
    from pipeline.access.access_key import describe_age

    parts = [", ".join(key.event_types)] if key.event_types else []
    if key.max_age_s is not None:
        parts.append(f"up to {describe_age(key.max_age_s)} old")
    if key.events_per_s is not None:
        parts.append(f"{key.events_per_s or 'any number'} a second")
    if key.source:
        parts.append(f"ids of {key.source}")
    return "; ".join(parts)


def _read_age(text: str) -> int | None:
    """Seconds of an age such as `7d`; None for `any`. Raises BadParameter."""
    found = _AGE.fullmatch(text)
    if text != "any" and found is None:
        raise typer.BadParameter(
            f"{text!r} is not an age; write a number and s, m, h or d, such as 7d, or any",
            param_hint="--max-age",
        )
    return None if found is None else int(found[1]) * _SECONDS[found[2]]


def _read_rate(text: str) -> int | None:
    """Events a second; None for `default`. Raises BadParameter."""
    if text != "default" and not _RATE.fullmatch(text):
        raise typer.BadParameter(
            f"{text!r} is not a rate; write events a second, such as 100, 0 for any number, or "
            "default",
            param_hint="--events-per-s",
        )
    return None if text == "default" else int(text)
