"""A server that is wrong, away or not ready is refused with one line that says what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis
from sqlalchemy import make_url, text

from pipeline.embedded import PrivateServers
from pipeline.errors import InvalidConfiguration, PipelineError, ServerUnavailable
from pipeline.postgres import engine, schema
from pipeline.postgres.engine import postgres_engine
from pipeline.postgres.fitness import VERSION_TABLE, check_postgres
from pipeline.redis import client
from pipeline.redis.client import check_redis, redis_client
from pipeline.services import Services, connect
from tests.helpers.support import count_events, event, execute

NOBODY_LISTENS = 1


def check(url: str, appendfsync: str = "always") -> None:
    with redis_client(url) as client:
        check_redis(client, appendfsync)


def check_database(url: str) -> None:
    engine = postgres_engine(url)
    try:
        check_postgres(engine)
    finally:
        engine.dispose()


def refusal(kind: type[PipelineError], checked: Callable[[], object]) -> str:
    """What the error says, which is one line without a secret."""
    with pytest.raises(kind) as caught:
        checked()
    message = str(caught.value)
    assert "\n" not in message
    assert "secret" not in message
    return message


@contextmanager
def configured(client: redis.Redis, name: str, value: str) -> Iterator[None]:
    before = client.config_get(name)[name]
    client.config_set(name, value)
    try:
        yield
    finally:
        client.config_set(name, before)


def with_password(url: str, password: str) -> str:
    return make_url(url).set(password=password).render_as_string(hide_password=False)


def with_port(url: str, port: int) -> str:
    return make_url(url).set(port=port).render_as_string(hide_password=False)


# Redis


def test_a_redis_that_keeps_what_it_acknowledges_is_accepted(redis_url: str) -> None:
    check(redis_url)


@pytest.mark.parametrize("password", ["secret", ""])
def test_a_wrong_password_of_redis_is_said(redis_url: str, password: str) -> None:
    message = refusal(InvalidConfiguration, lambda: check(with_password(redis_url, password)))
    assert "refuses the user or password" in message
    assert message.endswith("correct ANALYTICS_REDIS_URL")


def test_a_user_of_redis_who_may_not_do_what_is_needed_is_refused(
    client: redis.Redis, redis_url: str
) -> None:
    client.acl_setuser("limited", enabled=True, passwords=["+secret"], commands=["+ping"])
    try:
        url = make_url(redis_url).set(username="limited", password="secret")
        shown = url.render_as_string(hide_password=False)
        message = refusal(InvalidConfiguration, lambda: check(shown))
    finally:
        client.acl_deluser("limited")
    assert "no permissions" in message


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_a_redis_that_is_away_is_said_with_its_address(host: str) -> None:
    url = f"redis://:secret@{host}:{NOBODY_LISTENS}/0"
    message = refusal(ServerUnavailable, lambda: check(url))
    assert message.startswith(f"Redis at {host}:{NOBODY_LISTENS} does not answer")
    assert message.endswith("start it, or correct ANALYTICS_REDIS_URL")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://:secret@localhost:6379/0",
        "redis://:secret@localhost:port/0",
        "redis://:secret@localhost:6379/0?socket_timeout=soon",
        "redis://:secret@localhost:6379/0?nonsense=1",
        "redis://:with@secret@localhost:port/0",
        "redis://:secret/with@localhost:6379/0",
        "redis://:secret",
        "redis://localhost:6379/0?password=secret&nonsense=1",
        "sentinel://:secret@localhost:26379/0",
    ],
)
def test_a_wrong_url_of_redis_is_refused_without_showing_its_password(url: str) -> None:
    assert "the Redis URL " in refusal(InvalidConfiguration, lambda: redis_client(url))


def test_a_database_that_redis_does_not_have_is_said(redis_url: str) -> None:
    message = refusal(InvalidConfiguration, lambda: check(redis_url.removesuffix("/0") + "/99999"))
    assert "ANALYTICS_REDIS_URL" in message


def test_a_server_that_is_no_redis_is_said(redis_url: str, servers: PrivateServers) -> None:
    assert servers.postgres is not None
    url = with_port(redis_url, servers.postgres.port)
    assert "ANALYTICS_REDIS_URL" in refusal(PipelineError, lambda: check(url))


def test_a_redis_that_evicts_keys_is_refused(client: redis.Redis, redis_url: str) -> None:
    with configured(client, "maxmemory-policy", "allkeys-lru"):
        message = refusal(InvalidConfiguration, lambda: check(redis_url))
    assert "maxmemory-policy allkeys-lru" in message
    assert "set maxmemory-policy noeviction" in message


def test_a_redis_without_an_append_only_file_is_refused(
    client: redis.Redis, redis_url: str
) -> None:
    with configured(client, "appendonly", "no"):
        message = refusal(InvalidConfiguration, lambda: check(redis_url, "everysec"))
    assert "set appendonly yes" in message


def test_a_redis_that_syncs_every_second_is_accepted_only_where_that_is_asked_for(
    client: redis.Redis, redis_url: str
) -> None:
    with configured(client, "appendfsync", "everysec"):
        message = refusal(InvalidConfiguration, lambda: check(redis_url, "always"))
        check(redis_url, "everysec")
    assert "ANALYTICS_APPENDFSYNC=everysec" in message


def test_a_redis_that_syncs_always_is_accepted_by_those_who_ask_for_less(redis_url: str) -> None:
    check(redis_url, "everysec")


def test_a_redis_that_is_too_old_is_refused(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "OLDEST_REDIS", (99, 0))
    assert "is too old" in refusal(InvalidConfiguration, lambda: check(redis_url))


def test_a_client_never_repeats_a_command_by_itself(redis_url: str) -> None:
    """A repeat whose first reply was lost would count twice."""
    with redis_client(redis_url) as client:
        client.ping()
        retry = client.connection_pool.connection_kwargs["retry"]
        assert retry.get_retries() == 0
        assert client.get_retry() is retry


# Postgres


def test_a_migrated_postgres_is_accepted(postgres_url: str) -> None:
    check_database(postgres_url)


def test_a_postgres_that_is_not_set_up_is_said(empty_postgres_url: str) -> None:
    message = refusal(InvalidConfiguration, lambda: check_database(empty_postgres_url))
    newest = schema.newest_version()
    assert (
        message
        == f"the database is not set up, this program needs {newest}: run `analytics migrate`"
    )


def test_a_postgres_at_another_version_is_said(services: Services, postgres_url: str) -> None:
    execute(services, f"UPDATE {VERSION_TABLE} SET version_num = '0000'")
    message = refusal(InvalidConfiguration, lambda: check_database(postgres_url))
    assert message.startswith("the database is at version 0000, this program needs")


def test_a_flush_into_a_database_that_is_not_set_up_takes_nothing(
    services: Services, redis_url: str, empty_postgres_url: str
) -> None:
    other = connect(services.options, redis_url, empty_postgres_url)
    count_events(services, event())
    assert "run `analytics migrate`" in refusal(InvalidConfiguration, other.flush)
    other.close()
    assert services.claims.pending() == 2
    assert services.flush() == 2


def test_a_wrong_password_of_postgres_is_said(postgres_url: str) -> None:
    url = with_password(postgres_url, "secret")
    message = refusal(InvalidConfiguration, lambda: check_database(url))
    assert "refuses the connection" in message
    assert message.endswith("correct ANALYTICS_POSTGRES_URL")


@pytest.mark.parametrize("part", ["database", "username"])
def test_a_database_or_user_that_does_not_exist_is_said(postgres_url: str, part: str) -> None:
    url = make_url(postgres_url).set(**{part: "nowhere"}).render_as_string(hide_password=False)
    message = refusal(InvalidConfiguration, lambda: check_database(url))
    assert "nowhere" in message


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_a_postgres_that_is_away_is_said_with_its_address(host: str) -> None:
    url = f"postgresql://analytics:secret@{host}:{NOBODY_LISTENS}/analytics"
    message = refusal(ServerUnavailable, lambda: check_database(url))
    assert message.startswith(f"Postgres at {host}:{NOBODY_LISTENS} does not answer")
    assert message.endswith("start it, or correct ANALYTICS_POSTGRES_URL")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "mysql://u:secret@localhost/a",
        "postgresql://u:secret@localhost:x/a",
        "postgresql://u:with@secret@localhost:x/a",
        "postgresql://u:secret",
        "mysql://localhost/a?password=secret",
    ],
)
def test_a_wrong_url_of_postgres_is_refused_without_showing_its_password(url: str) -> None:
    assert "the Postgres URL " in refusal(InvalidConfiguration, lambda: postgres_engine(url))


def test_a_postgres_that_is_too_old_is_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "OLDEST_POSTGRES", 99)
    assert "is too old" in refusal(InvalidConfiguration, lambda: check_database(postgres_url))


def test_a_connection_that_was_cut_is_replaced(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_IDLE_S", 0)  # as if it had been idle for longer
    with services.engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    other = postgres_engine(services.engine.url.render_as_string(hide_password=False))
    with other.begin() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    other.dispose()
    count_events(services, event())
    assert services.flush() == 2


def test_no_password_is_logged(
    redis_url: str, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    check(redis_url)
    check_database(postgres_url)
    for url in (redis_url, postgres_url):
        assert str(make_url(url).password) not in caplog.text
