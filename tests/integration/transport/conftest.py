"""A server to look into, and connections of our transport to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from kombu import Connection

from tasks.transport import transport
from tests.integration.transport.support import KEYS, Connect


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def connect(redis_url: str, server: redis.Redis) -> Iterator[Connect]:
    """Makes connections of our transport: `connect(visibility_timeout=1)`."""
    transport.install()
    made: list[Connection] = []

    def make(url: str = redis_url, **options: Any) -> Connection:
        options = {
            "unacked_key": KEYS.unacked,
            "unacked_index_key": KEYS.unacked_index,
            "unacked_restore_throttle": 1,
            **options,
        }
        made.append(Connection(url, transport_options=options))
        return made[-1]

    yield make
    for connection in made:
        connection.release()
    server.flushdb()
