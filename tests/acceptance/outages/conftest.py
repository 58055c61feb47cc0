"""Servers that the test alone uses, with a migrated database: it may stop, kill and change them."""

from __future__ import annotations

import pytest

from pipeline.embedded import PrivateServers
from pipeline.postgres import schema
from pipeline.postgres.engine import postgres_engine


@pytest.fixture
def redis_url(own_servers: PrivateServers) -> str:
    assert own_servers.redis_url is not None
    return own_servers.redis_url


@pytest.fixture
def postgres_url(own_servers: PrivateServers) -> str:
    assert own_servers.postgres_url is not None
    engine = postgres_engine(own_servers.postgres_url)
    schema.migrate(engine)
    engine.dispose()
    return own_servers.postgres_url
