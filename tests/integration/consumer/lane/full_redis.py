"""A Redis past its `maxmemory`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis


@contextmanager
def full(client: redis.Redis) -> Iterator[None]:
    """The server refuses whatever may take memory, during the block."""
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)
