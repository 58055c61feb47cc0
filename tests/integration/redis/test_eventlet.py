"""eventlet, which must patch a process before redis is imported."""

from __future__ import annotations

import select
import sys
from types import ModuleType

import pytest

from pipeline.errors import InvalidConfiguration
from pipeline.redis.client import redis_client
from pipeline.redis.connections import take_connection


def test_a_process_patched_too_late_is_said_with_the_remedy(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "eventlet", ModuleType("eventlet"))
    monkeypatch.delattr(select, "poll")
    with (
        redis_client(redis_url) as client,
        pytest.raises(InvalidConfiguration, match=r"call eventlet\.monkey_patch\(\) before"),
    ):
        take_connection(client.connection_pool)
