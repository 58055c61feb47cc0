"""Messages handed over as text; Redis away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from pipeline.embedded import PrivateServers
from tests.integration.transport.support import (
    KEYS,
    QUEUE,
    Connect,
    bodies,
    consume,
    drain,
    publish,
    waiting,
)


def test_the_raw_lane_gets_texts_and_what_it_refuses_goes_the_usual_way(
    connect: Connect, server: redis.Redis
) -> None:
    connection = connect()
    publish(connection, *range(1_300))
    texts = server.lrange(QUEUE, 0, -1)[::-1]
    channel, received = consume(connection, prefetch=700)
    taken: list[tuple[str, bytes]] = []

    def handle(fetched: Any) -> Any:
        assert len(fetched) <= 700
        assert server.hlen(KEYS.unacked) <= 700
        refused = [item for item in fetched if item[1] in texts[:3]]
        mine = [item for item in fetched if item not in refused]
        server.hdel(KEYS.unacked, *(tag for tag, _ in mine))
        taken.extend(mine)
        return refused

    channel.raw_handler = handle
    drain(connection, lambda: len(taken) == 1_297)

    assert bodies(received) == [0, 1, 2]
    assert [text for _, text in taken] == texts[3:]
    assert server.hlen(KEYS.unacked) == 3


def test_what_the_raw_lane_failed_on_is_given_back(connect: Connect, server: redis.Redis) -> None:
    connection = connect()
    publish(connection, *range(600))
    channel, _ = consume(connection)

    def fail(fetched: Any) -> Any:
        raise ConnectionResetError("cut off")

    channel.raw_handler = fail
    with pytest.raises(ConnectionResetError):
        drain(connection, lambda: False)
    channel.close()
    assert waiting(server) == 600
    assert not server.exists(KEYS.unacked)


# Redis away


def test_closing_and_sweeping_without_redis_raises_nothing_and_loses_nothing(
    connect: Connect, tmp_path: Path
) -> None:
    with PrivateServers.start(tmp_path / "redis", postgres=False) as servers:
        assert servers.redis_url is not None
        assert servers.redis is not None
        connection = connect(servers.redis_url)
        publish(connection, *range(700))
        channel, received = consume(connection)
        drain(connection, lambda: received)
        servers.redis.kill()

        channel.qos.restore_visible(interval=1)
        channel.close()

        servers.redis.start()
        with redis.Redis.from_url(servers.redis_url) as client:
            assert client.hlen(KEYS.unacked) + waiting(client) == 700
        connection.release()


def test_a_lost_connection_is_one_that_celery_knows(connect: Connect, tmp_path: Path) -> None:
    with PrivateServers.start(tmp_path / "redis", postgres=False) as servers:
        assert servers.redis_url is not None
        assert servers.redis is not None
        connection = connect(servers.redis_url)
        _, received = consume(connection)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.2)
        servers.redis.kill()
        with pytest.raises(connection.connection_errors):
            drain(connection, lambda: received)
        servers.redis.start()
        again = connect(servers.redis_url)
        publish(again, "a")
        _, received = consume(again)
        drain(again, lambda: received)
        again.release()
        connection.release()


def test_no_client_of_a_channel_repeats_a_command(connect: Connect) -> None:
    channel = connect().channel()
    for pool in (channel.pool, channel.async_pool):
        assert pool.connection_kwargs["retry"].get_retries() == 0
    with channel.conn_or_acquire() as one, channel.conn_or_acquire() as other:
        assert one is other
