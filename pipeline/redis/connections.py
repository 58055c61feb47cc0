"""Connections of redis-py's pools, taken in the way that its version has."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import redis

from pipeline.errors import InvalidConfiguration

# Before 5.3 a pool wants the name of a command, for which it has no use; later it warns of it.
_parameters = inspect.signature(redis.ConnectionPool.get_connection).parameters
_NAMED = _parameters.get("command_name")
_ARGUMENTS = ("EVALSHA",) if _NAMED is not None and _NAMED.default is _NAMED.empty else ()


PATCHED_LATE = (
    "eventlet has patched this process after redis was imported, which then cannot connect: call "
    "eventlet.monkey_patch() before anything else is imported"
)


def take_connection(pool: Any) -> Any:
    """A connection of the pool, opened. Give it back by `pool.release`. Raises redis.RedisError,
    and `InvalidConfiguration` where eventlet was too late."""
    try:
        return pool.get_connection(*_ARGUMENTS)
    except AttributeError as error:
        if "eventlet" in sys.modules and "poll" in str(error):  # which it takes away
            raise InvalidConfiguration(PATCHED_LATE) from error
        raise
