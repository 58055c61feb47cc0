"""Whether there is room for what comes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from pipeline.options import EventLogOptions
from pipeline.services import Services
from pipeline.upkeep.condition.room import (
    FULL,
    READ_ONLY,
    find_log_warnings,
    find_refusal,
)
from tests.conftest import MakeServices
from tests.helpers.support import count_events, event


@pytest.fixture
def changed(client: redis.Redis) -> Iterator[redis.Redis]:
    """The client; what the test sets goes with it."""
    yield client
    client.config_set("maxmemory", 0)
    client.execute_command("REPLICAOF", "NO", "ONE")


def test_redis_refuses_what_it_would_refuse_a_producer(changed: redis.Redis) -> None:
    assert find_refusal(changed) is None
    changed.config_set("maxmemory", 1)
    assert find_refusal(changed) == FULL
    changed.config_set("maxmemory", 0)
    assert find_refusal(changed) is None
    changed.execute_command("REPLICAOF", "127.0.0.1", "1")
    assert find_refusal(changed) == READ_ONLY


@pytest.mark.parametrize(
    ("entries", "size", "is_said"),
    [(189, 0, False), (190, 0, True), (0, 1_899, False), (0, 1_900, True), (200, 2_000, True)],
)
def test_a_log_with_hardly_any_room_is_named(entries: int, size: int, is_said: bool) -> None:
    options = EventLogOptions(partitions=2, max_entries=100, max_bytes=1_000)
    found = find_log_warnings({"entries": entries, "bytes": size}, options)
    assert [line.split(" is ")[0] for line in found] == ["event log"] * is_said


def test_the_status_names_a_full_log_until_it_is_archived(make_services: MakeServices) -> None:
    services: Services = make_services(event_log_max_entries=3)
    for _ in range(3):
        assert services.status()["warnings"] == []
        count_events(services, event())
    [line] = services.status()["warnings"]
    assert line.startswith("event log is 100% full")
    services.archive_events()
    assert services.status()["warnings"] == []
