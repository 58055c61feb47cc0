"""The event that is followed, and how to tell whether a value holds it or what was made of it."""

from __future__ import annotations

import functools
import json
import re
from base64 import b64encode
from collections import deque
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

import msgspec

MARK = "followed_qzvxk"
"""Stands in every field of the event, and nowhere else."""

PROPERTY = "path"
EVENT: dict[str, Any] = {
    "event_type": MARK,
    "user_id": f"user_{MARK}",
    "properties": {PROPERTY: f"/{MARK}"},
    "event_id": f"id_{MARK}",
}
COUNT_BY = {MARK: [PROPERTY]}
"""The setting under which the event adds to a counter of every kind. It has the mark in it, since
it names the event's type, and is no part of the event."""

OURS = ("pipeline", "tasks")
"""The packages that an event passes through, and whose objects are searched for it."""

_DEEPEST = 6
_LONGEST = 300
_ATOMS = (int, float, complex, type, type(None))
_SEQUENCES = (list, tuple, set, frozenset, deque)


def _in_base64(text: bytes) -> Iterator[bytes]:
    """The text as it stands in base64, for each of the three places in a group of bytes where it
    can begin; without the characters that it shares with its neighbours."""
    for before in range(3):
        whole = (before + len(text)) // 3 * 3
        encoded = b64encode((bytes(before) + text)[:whole])
        yield encoded[4 if before else 0 :]


_BYTES = re.compile(b"|".join(map(re.escape, [MARK.encode(), *_in_base64(MARK.encode())])))
_TEXT = re.compile(_BYTES.pattern.decode())
_SETTING = json.dumps(COUNT_BY)


def is_marked(value: object, depth: int = 0) -> bool:
    """Whether the event, or what was made of it, is in the value.

    Searches text and bytes (also for base64), containers, closures and our own objects.
    """
    if isinstance(value, str):
        return bool(_TEXT.search(value)) and value != _SETTING
    if isinstance(value, bytes | bytearray | memoryview | msgspec.Raw):
        return bool(_BYTES.search(value))
    if isinstance(value, _ATOMS) or depth == _DEEPEST:
        return False
    if isinstance(value, dict) and value.get(MARK) == COUNT_BY[MARK]:  # the setting, or made of it
        return False
    return any(is_marked(part, depth + 1) for part in _parts(value))


def _parts(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for item in list(value.items())[:_LONGEST]:
            yield from item
    elif isinstance(value, _SEQUENCES):
        yield from list(value)[:_LONGEST]
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, MethodType):
        yield value.__self__
    elif isinstance(value, FunctionType):
        yield from _closure(value)
    elif type(value).__module__.partition(".")[0] in OURS:
        yield from _fields(value)


def _closure(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue


def _fields(value: object) -> Iterator[object]:
    yield getattr(value, "__dict__", None)
    for cls in type(value).__mro__:
        names = cls.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            yield getattr(value, name, None)
