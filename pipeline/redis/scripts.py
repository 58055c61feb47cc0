"""The Lua scripts, each beside the module that calls it: loaded by name, called by their SHA."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, cast

import redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError


@cache
def source(name: str) -> bytes:
    """The text of a script, named as a module is: `pipeline.counting.apply`."""
    package, _, stem = name.rpartition(".")
    return files(package).joinpath(f"{stem}.lua").read_bytes()


@cache
def sha1(name: str) -> str:
    """The name under which a server that has loaded `name` knows it."""
    return hashlib.sha1(source(name), usedforsecurity=False).hexdigest()


def script(client: redis.Redis, name: str) -> Script:
    """The script `name`; a server that does not know it yet is sent its text."""
    return client.register_script(source(name))


class Call:
    """A call of the script `name` that was sent, and whose answer is waited for later.
    Where the answer is small, also the quicker call: the client's own takes a third longer.

    It keeps a connection until `answer` or `drop`, one of which must follow. Raises
    redis.RedisError when it cannot be sent; it may have been, all the same.
    """

    def __init__(
        self, client: redis.Redis, name: str, keys: Sequence[str], args: Sequence[Any]
    ) -> None:
        self._name = name
        self._command = ("EVALSHA", sha1(name), len(keys), *keys, *args)
        self._connections = cast("Any", client.connection_pool)
        self._connection = self._connections.get_connection()
        try:
            self._connection.send_command(*self._command)
        except BaseException:
            self.drop()
            raise

    def answer(self) -> Any:
        """What the script returns. Raises redis.RedisError."""
        try:
            try:
                return self._connection.read_response()
            except NoScriptError:
                self._connection.send_command("SCRIPT", "LOAD", source(self._name))
                self._connection.read_response()
                self._connection.send_command(*self._command)
                return self._connection.read_response()
        finally:
            self._connections.release(self._connection)

    def drop(self) -> None:
        """Wait for no answer; whether the script has run stays unknown."""
        self._connection.disconnect()
        self._connections.release(self._connection)
