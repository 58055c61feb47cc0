"""A full server: everything works but publishing events, in kombu's formats byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError
from redis.exceptions import OutOfMemoryError

from tasks.transport.full_redis import MOST_WAITING
from tests.integration.transport.support import (
    KEYS,
    QUEUE,
    Connect,
    bodies,
    consume,
    drain,
    publish,
    raw_message,
    waiting,
)

EVENTS = "analytics.events"
MESSAGE = json.loads(raw_message('"a"', task="t"))

Full = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def full(server: redis.Redis) -> Full:
    """A context in which the server is full."""

    @contextmanager
    def full() -> Iterator[None]:
        server.config_set("maxmemory", 1)
        try:
            yield
        finally:
            server.config_set("maxmemory", 0)

    return full


def contents(server: redis.Redis) -> dict[bytes, tuple[bytes, int]]:
    """Every key: its value, and its lifetime to the half minute; deadlines have no time."""
    found = {}
    for name in server.scan_iter():
        if server.type(name) == b"zset":
            value = repr(server.zrange(name, 0, -1)).encode()
        else:
            value = server.dump(name) or b""
        lifetime_ms = server.pttl(name)
        # Rounded, not cut: an hour that has just begun is 120 halves of a minute, and so it is a
        # moment later.
        found[name] = value, lifetime_ms if lifetime_ms < 0 else round(lifetime_ms / 30_000)
    return found


@pytest.mark.parametrize("options", [{}, {"expires": 3600.0}])
@pytest.mark.parametrize("exchange_type", ["direct", "fanout"])
def test_a_queue_declared_and_filled_on_a_full_server_looks_as_kombu_makes_it(
    connect: Connect, server: redis.Redis, full: Full, options: dict[str, Any], exchange_type: str
) -> None:
    def declare_and_fill() -> dict[bytes, tuple[bytes, int]]:
        channel = connect().channel()
        exchange = Exchange("e", exchange_type)
        Queue("q", exchange, routing_key="k", queue_arguments={}, **options)(channel).declare()
        for priority in (0, 6):
            message = {**MESSAGE, "properties": {**MESSAGE["properties"], "priority": priority}}
            channel._put("q", message)
            channel._put("q", message)
        found = contents(server)
        assert channel.queue_declare("q", passive=True).message_count == 4
        channel.queue_delete("q")
        assert not server.exists("q", "q\x06\x166")
        server.flushdb()
        return found

    expected = declare_and_fill()
    with full():
        assert declare_and_fill() == expected


def test_what_a_full_server_holds_can_be_looked_at_and_purged(
    connect: Connect, server: redis.Redis, full: Full
) -> None:
    connection = connect()
    publish(connection, "a", "b")
    channel = connection.channel()
    with full():
        assert channel.queue_declare(QUEUE).message_count == 2
        assert json.loads(channel.basic_get(QUEUE, no_ack=True).body) == "a"
        assert channel.queue_purge(QUEUE) == 1


def test_a_channel_on_a_full_server_delivers_acknowledges_and_gives_back(
    connect: Connect, server: redis.Redis, full: Full
) -> None:
    connection = connect()
    with full():
        publish(connection, "a", "b", "c", "d")
        channel, received = consume(connection)
        drain(connection, lambda: len(received) == 4)
        received[0].ack()
        received[1].requeue()
        channel.qos.restore("RPUSH", "older", -1, 1)
        channel.close()
    assert waiting(server) == 3
    assert not server.exists(KEYS.unacked, KEYS.unacked_index)


def test_a_message_of_a_stock_worker_is_returned_on_a_full_server(
    connect: Connect, server: redis.Redis, full: Full
) -> None:
    channel = connect(visibility_timeout=1).channel()
    with full():
        for queue in ("q1", "q2"):
            Queue(queue, exchange="e", routing_key="k")(channel).declare()
        server.config_set("maxmemory", 0)
        for tag, entry in {
            "routed": [MESSAGE, "e", "k"],
            "lost": [MESSAGE, "nowhere", "k"],
            "odd": {"a": 1},
        }.items():
            server.hset(KEYS.unacked, tag, json.dumps(entry))
            server.zadd(KEYS.unacked_index, {tag: 1})
        server.config_set("maxmemory", 1)

        channel.qos.restore_visible(interval=1)

    assert not server.exists(KEYS.unacked, KEYS.unacked_index)
    for queue in ("q1", "q2"):
        (text,) = server.lrange(queue, 0, -1)
        assert json.loads(text)["headers"] == {"task": "t", "redelivered": True}
    assert [letter[b"body"] for _, letter in server.xrange(KEYS.dead)] == [
        json.dumps([MESSAGE, "nowhere", "k"]).encode(),
        b'{"a": 1}',
    ]


def test_replies_are_read_from_a_full_server(
    connect: Connect, server: redis.Redis, full: Full
) -> None:
    connection = connect()
    received: list[Any] = []
    channel = connection.channel()
    queue = Queue("reply", Exchange("replies"), routing_key="k", expires=10, auto_delete=True)
    with full():
        queue(channel).declare()
        channel.basic_consume("reply", True, received.append, "tag")
        for number in range(3):
            message = channel.prepare_message(json.dumps(number))
            channel.basic_publish(message, "replies", "k")
            drain(connection, lambda number=number: len(received) == number + 1)
        channel.close()
    assert bodies(received) == [0, 1, 2]
    assert not server.exists("reply")


# What is refused


@pytest.mark.parametrize("priority", [0, 9])
def test_events_are_refused_by_a_full_server(
    connect: Connect, server: redis.Redis, full: Full, priority: int
) -> None:
    connection = connect()
    with full():
        with pytest.raises(OutOfMemoryError):
            publish(connection, "a", queue=EVENTS, priority=priority)
        app = Celery(broker=connection.as_uri(include_password=True), set_as_current=False)
        with pytest.raises(OperationalError, match="maxmemory"):
            app.send_task("analytics.track_event", ("a",), queue=EVENTS, priority=priority)
        app.close()
    assert waiting(server, EVENTS) == 0


def test_a_full_server_takes_only_so_many_other_messages(
    connect: Connect, server: redis.Redis, full: Full
) -> None:
    connection = connect()
    publish(connection, *range(MOST_WAITING + 10))
    with full():
        with pytest.raises(OutOfMemoryError, match=f"{MOST_WAITING} messages wait"):
            publish(connection, "one more")
        assert waiting(server) == MOST_WAITING + 10
    publish(connection, "one more")
    server.ltrim(QUEUE, -(MOST_WAITING - 1), -1)
    with full():
        publish(connection, "the last")
        with pytest.raises(OutOfMemoryError):
            publish(connection, "one too many")
    assert waiting(server) == MOST_WAITING
