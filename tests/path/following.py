"""Follows the event through one process: which code of ours and which of our scripts it reaches.

Python tells of every call and return. A script runs in Redis, so what is seen of it is what is sent
and what is answered, at redis-py's connection. Neither changes anything in the code followed.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from tests.helpers.sent_scripts import script_of
from tests.path.marks import OURS, is_marked

ROOT = Path(__file__).resolve().parents[2]

Place = tuple[str, int]
"""A file, and the line at which a piece of code begins; 0 for a whole script."""


class Follower:
    """Numbers the calls of one process and keeps those in which the event was."""

    def __init__(self) -> None:
        self.reached: dict[Place, int] = {}
        """The number of the first call with the event."""
        self._numbers = itertools.count(1)
        self._thread = threading.local()
        self._folders = tuple(f"{ROOT / package}/" for package in OURS)
        self._follows = False

    def start(self) -> None:
        """Follow this thread, and all that begin later."""
        self._follows = True
        _watch_scripts(self)
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def stop(self) -> None:
        """Follow no longer."""
        self._follows = False
        threading.setprofile(None)
        sys.setprofile(None)

    def number_call(self) -> int:
        """The number of a call that begins."""
        return next(self._numbers)

    def note(self, place: Place, call: int, *values: object) -> None:
        """Keep the place when the event is in a value and was in no earlier call there."""
        if call < self.reached.get(place, sys.maxsize) and any(map(is_marked, values)):
            self.reached[place] = call

    def _profile(self, frame: FrameType, happened: str, result: object) -> None:
        code = frame.f_code
        if happened not in ("call", "return") or not self._follows:
            return
        if not code.co_filename.startswith(self._folders) or code.co_name == "<module>":
            return
        under_way: list[int] = self._thread.__dict__.setdefault("calls", [])
        if happened == "call":
            under_way.append(self.number_call())
        elif not under_way:  # called before we began to follow
            return
        place = code.co_filename, code.co_firstlineno
        # At a call these are the arguments, and what a closure or a resumed generator holds.
        values = frame.f_locals.values() if happened == "call" else (result,)
        self.note(place, under_way[-1], *values)
        if happened == "return":
            under_way.pop()


def _watch_scripts(follower: Follower) -> None:
    """Note the scripts that are sent the event, or answer with it, at the call that sent them."""
    from redis.connection import AbstractConnection

    files = {
        hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest(): str(path)
        for package in OURS
        for path in (ROOT / package).rglob("*.lua")
    }
    connection: Any = AbstractConnection
    send, read = connection.send_packed_command, connection.read_response

    def watched_send(self: Any, command: Any, *args: Any, **options: Any) -> None:
        file = files.get(script_of(command) or "")
        self.followed = None if file is None else ((file, 0), follower.number_call())
        if self.followed is not None:
            follower.note(*self.followed, command)
        send(self, command, *args, **options)

    def watched_read(self: Any, *args: Any, **options: Any) -> Any:
        answer = read(self, *args, **options)
        if getattr(self, "followed", None) is not None:
            follower.note(*self.followed, answer)
            self.followed = None
        return answer

    connection.send_packed_command, connection.read_response = watched_send, watched_read
