"""Which users a text names that is no valid event: a dead letter, or what becomes one. Pure."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator

import msgspec

from pipeline.event.names import clean_name

_DEEPEST = 110
_decode = msgspec.json.Decoder().decode


def find_user_ids(body: bytes) -> set[str] | None:
    """The values of `user_id` anywhere in a JSON text, and what begins a task's arguments as one,
    in whatever form they are wrapped; None when it is not JSON."""
    try:
        return set(_walk(_decode(body), 0))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def names_as_text(body: bytes, user_id: str) -> bool:
    """Whether a text that is not JSON has the id in quotes, in either way of writing it."""
    body = _find_arguments(body)
    return msgspec.json.encode(user_id) in body or f'"{user_id}"'.encode() in body


def _walk(found: object, depth: int) -> Iterator[str]:
    if isinstance(found, dict):
        yield from _list_forms(found.get("user_id"))
        wrapped = found.get("body")
        if isinstance(wrapped, str) and depth == 0:  # the broker's message
            yield from _walk(_decode(_unwrap(wrapped)), depth + 1)
            return
        inner = list(found.values())
    elif isinstance(found, list):
        inner = found
        if len(found) > 1 and isinstance(found[0], str):
            yield from _list_forms(found[1])  # positional arguments: [event_type, user_id, …]
    else:
        return
    if depth < _DEEPEST:
        for one in inner:
            yield from _walk(one, depth + 1)


def _list_forms(user_id: object) -> Iterator[str]:
    """The id as it is and as it is counted: cleaned, and as text."""
    if isinstance(user_id, str):
        yield user_id
        yield clean_name(user_id)
    elif isinstance(user_id, int) and not isinstance(user_id, bool):
        yield str(user_id)


def _find_arguments(body: bytes) -> bytes:
    """The arguments in a broker's message, where they can be found; else all of it."""
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return body
    wrapped = found.get("body") if isinstance(found, dict) else None
    return _unwrap(wrapped) if isinstance(wrapped, str) else body


def _unwrap(body: str) -> bytes:
    """The arguments of a task: in base64, or as they are."""
    try:
        return b64decode(body, validate=True)
    except ValueError:
        return body.encode(errors="replace")
