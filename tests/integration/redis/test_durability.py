"""A Redis that may lose what it acknowledged is named, also where it refuses to be asked."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from sqlalchemy import make_url

from pipeline.errors import InvalidConfiguration
from pipeline.metrics.reading import StateReader
from pipeline.metrics.state import make_registry
from pipeline.producer import app as producer
from pipeline.producer.celery_tasks import track_event
from pipeline.redis.client import check_redis, redis_client
from pipeline.redis.durability import read_durability, warn_in_background
from pipeline.services import Services, connect
from tests.helpers.support import Workers, eventually, sent


@contextmanager
def user_without(client: redis.Redis, redis_url: str, *commands: str) -> Iterator[str]:
    """The URL of a user who may do all but these commands, as managed servers have them."""
    client.acl_setuser(
        "managed",
        enabled=True,
        passwords=["+secret"],
        keys=["*"],
        channels=["*"],
        categories=["+@all"],
        commands=[f"-{command}" for command in commands],
    )
    try:
        url = make_url(redis_url).set(username="managed", password="secret")
        yield url.render_as_string(hide_password=False)
    finally:
        client.acl_deluser("managed")


def doubt_of(url: str, appendfsync: str = "always") -> str:
    with redis_client(url) as client:
        return check_redis(client, appendfsync) or ""


def test_a_redis_that_says_that_it_keeps_all_leaves_no_doubt(redis_url: str) -> None:
    assert doubt_of(redis_url) == ""


@pytest.mark.parametrize("hidden", [["config"], ["config|get"], ["info"], ["info", "config"]])
def test_what_redis_does_not_say_is_said_and_not_taken_for_good(
    client: redis.Redis, redis_url: str, hidden: list[str]
) -> None:
    with user_without(client, redis_url, *hidden) as url:
        doubt = doubt_of(url)
    assert doubt.startswith("Redis does not say ")
    assert "\n" not in doubt
    assert "appendonly yes, appendfsync always and maxmemory-policy noeviction" in doubt
    assert ("whether it keeps an append-only file" in doubt) == ("info" in hidden)
    assert ("whether it evicts keys" in doubt) == ("info" in hidden)
    assert ("how it syncs" in doubt) == (hidden != ["info"])


def test_what_is_wrong_is_refused_also_where_the_rest_is_not_said(
    client: redis.Redis, redis_url: str
) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with (
            user_without(client, redis_url, "config") as url,
            pytest.raises(InvalidConfiguration, match="evicts keys"),
        ):
            doubt_of(url)
    finally:
        client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize(
    ("option", "value", "wanted", "said"),
    [
        ("appendfsync", "no", "everysec", "may lose half a minute"),
        ("no-appendfsync-on-rewrite", "yes", "always", "set no-appendfsync-on-rewrite no"),
    ],
)
def test_a_redis_that_syncs_less_than_asked_for_is_refused(
    client: redis.Redis, redis_url: str, option: str, value: str, wanted: str, said: str
) -> None:
    before = client.config_get(option)[option]
    client.config_set(option, value)
    try:
        with pytest.raises(InvalidConfiguration, match=said):
            doubt_of(redis_url, wanted)
    finally:
        client.config_set(option, before)


def test_a_replica_is_refused(client: redis.Redis, redis_url: str) -> None:
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(InvalidConfiguration, match="give the address of its primary"):
            doubt_of(redis_url)
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")


def test_status_and_metrics_say_it(
    client: redis.Redis, redis_url: str, services: Services, postgres_url: str
) -> None:
    assert "redis" not in services.status()
    durable = "analytics_redis_durable"
    assert make_registry(StateReader(services).read).get_sample_value(durable) == 1
    with user_without(client, redis_url, "config") as url:
        other = connect(services.options, url, postgres_url)
        try:
            assert "how it syncs" in other.status()["redis"]
            assert make_registry(StateReader(other).read).get_sample_value(durable) == 0
        finally:
            other.close()


def test_a_worker_logs_it_once_at_its_start(
    client: redis.Redis, redis_url: str, workers: Workers
) -> None:
    with user_without(client, redis_url, "config") as url:
        workers.environment["ANALYTICS_REDIS_URL"] = url
        worker = workers.start("events")
        eventually(lambda: "Redis does not say how it syncs" in worker.said())
        assert worker.said().count("Redis does not say") == 1


def test_a_producer_logs_it_once_a_process_and_publishes_all_the_same(
    client: redis.Redis, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        user_without(client, redis_url, "info", "config") as url,
        caplog.at_level(logging.WARNING),
    ):
        producer.configure(redis_url=url)
        for _ in range(3):
            producer.idle_publishers.cache_clear()
            track_event.delay("page_view")
        eventually(lambda: "Redis does not say" in caplog.text)
    assert len(sent(client)) == 3
    assert caplog.text.count("Redis does not say") == 1
    assert "secret" not in caplog.text


def test_a_producer_says_nothing_of_a_redis_that_keeps_all(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), redis_client(redis_url) as client:
        assert read_durability(client, "always").is_good
        warn_in_background(client, "always")
    assert caplog.text == ""
