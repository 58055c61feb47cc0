"""The Lua scripts, each in the room that calls it: loaded by name, called by their SHA."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any, cast

import redis
from redis.exceptions import NoScriptError

from pipeline.redis.connections import take_connection

Parts = Sequence[Any]
"""Keys or arguments of a script: text, bytes and numbers."""


@dataclass(frozen=True)
class Script:
    """A script, named as a module is: `pipeline.counting.apply` is `apply.lua` in that room."""

    name: str

    @cached_property
    def source(self) -> bytes:
        """Its text."""
        room, _, stem = self.name.rpartition(".")
        return files(room).joinpath(f"{stem}.lua").read_bytes()

    @cached_property
    def sha1(self) -> str:
        """The name under which a server that has loaded the script knows it."""
        return hashlib.sha1(self.source, usedforsecurity=False).hexdigest()

    def run(self, client: redis.Redis, keys: Parts, args: Parts = ()) -> Any:
        """Call the script and return its answer. Raises redis.RedisError."""
        return self.begin(client, keys, args).answer()

    def begin(self, client: redis.Redis, keys: Parts, args: Parts = ()) -> Call:
        """Send the call; its answer is waited for later. Raises redis.RedisError when it cannot be
        sent; it may have been, all the same."""
        pool = cast("Any", client.connection_pool)
        connection = take_connection(pool)
        try:
            return Call(self, connection, keys, args, pool)
        except BaseException:
            connection.disconnect()
            pool.release(connection)
            raise


class Call:
    """A call of a script that was sent. One of `answer` and `drop` must follow: until then the call
    keeps its connection."""

    def __init__(
        self, script: Script, connection: Any, keys: Parts, args: Parts, pool: Any = None
    ) -> None:
        """Send the call. `connection` goes back to `pool` with the answer; without a pool it is its
        caller's."""
        self._script, self._connection, self._pool = script, connection, pool
        self._command = ("EVALSHA", script.sha1, len(keys), *keys, *args)
        connection.send_command(*self._command)

    def answer(self) -> Any:
        """What the script returns; a server that does not know it yet is sent its text. Raises
        redis.RedisError."""
        try:
            return self._connection.read_response()
        except NoScriptError:
            self._connection.send_command("SCRIPT", "LOAD", self._script.source)
            self._connection.read_response()
            self._connection.send_command(*self._command)
            return self._connection.read_response()
        finally:
            if self._pool is not None:
                self._pool.release(self._connection)

    def drop(self) -> None:
        """Wait for no answer; whether the script has run stays unknown."""
        self._connection.disconnect()
        if self._pool is not None:
            self._pool.release(self._connection)
