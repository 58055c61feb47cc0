"""Connections of redis-py's pools, taken in the way that its version has."""

from __future__ import annotations

import inspect
from typing import Any

import redis

# Before 5.3 a pool wants the name of a command, for which it has no use; later it warns of it.
_parameters = inspect.signature(redis.ConnectionPool.get_connection).parameters
_NAMED = _parameters.get("command_name")
_ARGUMENTS = ("EVALSHA",) if _NAMED is not None and _NAMED.default is _NAMED.empty else ()


def take_connection(pool: Any) -> Any:
    """A connection of the pool, opened. Give it back by `pool.release`. Raises
    redis.RedisError."""
    return pool.get_connection(*_ARGUMENTS)
