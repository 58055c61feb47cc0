"""Servers that are killed, come back, or come back older: what was acknowledged is counted once."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy.exc import OperationalError

from config.options import pipeline_options
from config.settings import Settings
from pipeline.embedded import PrivateServers, Server
from pipeline.errors import RedisWentBack, ServerUnavailable
from pipeline.postgres import schema
from pipeline.services import Services, connect
from tests.conftest import chosen_programs
from tests.helpers.support import TODAY, count_events, event, execute, stored_total


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outages")


@pytest.fixture(scope="module")
def killable(data_dir: Path) -> Iterator[PrivateServers]:
    """Servers of these tests alone."""
    with PrivateServers.start(data_dir, **chosen_programs()) as running:
        yield running


@pytest.fixture
def redis_server(killable: PrivateServers) -> Server:
    assert killable.redis is not None
    return killable.redis


@pytest.fixture
def postgres_server(killable: PrivateServers) -> Server:
    assert killable.postgres is not None
    return killable.postgres


@pytest.fixture
def services(killable: PrivateServers) -> Iterator[Services]:
    """Services on those servers, empty at first."""
    for server in killable.check():
        server.start()
    assert killable.redis_url is not None
    assert killable.postgres_url is not None
    services = connect(pipeline_options(Settings()), killable.redis_url, killable.postgres_url)
    services.redis.flushall()
    execute(services, "DROP SCHEMA public CASCADE")
    execute(services, "CREATE SCHEMA public")
    schema.migrate(services.engine)
    yield services
    services.close()


def test_while_postgres_is_killed_nothing_leaves_redis_and_afterwards_all_is_stored(
    services: Services, postgres_server: Server
) -> None:
    count_events(services, event())
    services.flush()
    count_events(services, event())
    postgres_server.kill()
    with pytest.raises(ServerUnavailable, match=r"Postgres at .* does not answer"):
        services.flush()
    with pytest.raises(OperationalError):
        services.stats.daily_count("page_view", TODAY)
    count_events(services, event())
    assert (services.claims.pending(), services.claims.open_batches()) == (2, [])
    postgres_server.start()
    assert services.flush() == 2
    assert stored_total(services) == services.stats.daily_count("page_view", TODAY) == 3


def test_what_redis_has_acknowledged_survives_its_kill(
    services: Services, redis_server: Server
) -> None:
    """Events are counted one by one until the kill; at most the last one is in doubt."""
    acknowledged = 0
    enough = threading.Event()

    def work() -> None:
        nonlocal acknowledged
        try:
            while True:
                count_events(services, event(user_id="u1"))
                acknowledged += 1
                if acknowledged == 100:
                    enough.set()
        except redis.ConnectionError:
            pass

    worker = threading.Thread(target=work)
    worker.start()
    assert enough.wait(30)
    redis_server.kill()
    worker.join()
    with pytest.raises(ServerUnavailable, match=r"Redis at .* does not answer"):
        services.flush()
    redis_server.start()
    count = services.stats.daily_count("page_view", TODAY)
    assert count in (acknowledged, acknowledged + 1)
    assert services.stats.user_counts("u1") == {"page_view": {TODAY: count}}
    services.flush()
    assert stored_total(services) == count


def test_a_batch_claimed_before_redis_was_killed_is_stored_once(
    services: Services, redis_server: Server
) -> None:
    count_events(services, event())
    services.claims.claim("b1", 1_000, (0, 0))
    redis_server.kill()
    redis_server.start()
    assert services.stats.daily_count("page_view", TODAY) == 1
    assert services.flush() == 2
    assert stored_total(services) == services.stats.daily_count("page_view", TODAY) == 1


def test_a_redis_restored_from_an_older_copy_is_not_flushed_until_it_is_accepted(
    services: Services, redis_server: Server, data_dir: Path, tmp_path: Path
) -> None:
    count_events(services, event())
    services.flush()
    count_events(services, event(), event())
    redis_server.stop()
    shutil.copytree(data_dir / "redis", tmp_path / "copy")
    redis_server.start()
    services.flush()
    redis_server.stop()
    shutil.rmtree(data_dir / "redis")
    shutil.copytree(tmp_path / "copy", data_dir / "redis")
    redis_server.start()
    with pytest.raises(RedisWentBack):
        services.flush()
    assert (stored_total(services), services.claims.pending()) == (3, 2)
    assert services.accept_redis_state() == 1
    services.flush()
    assert stored_total(services) == 5, "counted twice, as the one who accepted it was told"


def test_both_servers_killed_at_once_lose_nothing(
    services: Services, redis_server: Server, postgres_server: Server
) -> None:
    count_events(services, event())
    services.flush()
    count_events(services, event())
    services.claims.claim("b1", 1_000, (0, 0))
    count_events(services, event())
    for server in (redis_server, postgres_server):
        server.kill()
    for server in (redis_server, postgres_server):
        server.start()
    assert services.stats.daily_count("page_view", TODAY) == 3
    services.flush()
    assert stored_total(services) == 3


def test_a_lost_connection_that_kombu_cannot_close_does_not_end_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """kombu would give back what waits to be acknowledged over the connection that is lost."""
    from celery.worker.consumer import Consumer as CelerysConsumer

    from tasks.consumer.celery_consumer import Consumer

    def fail(*_: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'hostname'")

    monkeypatch.setattr(CelerysConsumer, "on_connection_error_after_connected", fail)
    Consumer.__new__(Consumer).on_connection_error_after_connected(redis.ConnectionError())
