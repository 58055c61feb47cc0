"""What a channel or a dead worker held goes back into the queue."""

from __future__ import annotations

import json

import redis
from kombu import Queue

from tasks.transport.visibility import Extender
from tests.integration.transport.support import (
    KEYS,
    QUEUE,
    Connect,
    consume,
    drain,
    publish,
    raw_message,
    waiting,
)


def test_a_closed_channel_gives_back_all_it_holds_in_order(
    connect: Connect, server: redis.Redis
) -> None:
    connection = connect()
    numbers = list(range(1_234))
    publish(connection, *numbers)
    before = server.lrange(QUEUE, 0, -1)
    channel, received = consume(connection)
    drain(connection, lambda: received)

    channel.close()

    assert server.lrange(QUEUE, 0, -1) == before
    assert not server.exists(KEYS.unacked, KEYS.unacked_index)


def test_a_cancelled_consumer_leaves_nothing_behind(connect: Connect, server: redis.Redis) -> None:
    connection = connect()
    publish(connection, *range(1_200))
    channel, received = consume(connection)
    drain(connection, lambda: received)

    channel.test_consumer.cancel()
    drain(connection, lambda: server.hlen(KEYS.unacked) <= len(received))  # a fetch was under way
    assert waiting(server) == 1_200 - len(received)

    channel.close()
    assert waiting(server) == 1_200


def test_a_message_that_comes_while_an_idle_channel_closes_is_left_in_the_queue(
    connect: Connect, server: redis.Redis
) -> None:
    connection = connect()
    channel, received = consume(connection)
    drain(connection, lambda: server.info("clients")["blocked_clients"] or True)
    connection.transport.cycle.on_poll_start()
    channel.test_consumer.cancel()
    publish(connection, "a")

    channel.close()

    assert not received
    assert waiting(server) == 1


def test_a_rejected_message_goes_back_to_its_priority(
    connect: Connect, server: redis.Redis
) -> None:
    connection = connect()
    publish(connection, "a", priority=6)
    text = server.lindex(f"{QUEUE}\x06\x166", 0)
    _, received = consume(connection, prefetch=1)
    drain(connection, lambda: received)

    received[0].requeue()

    assert server.lrange(f"{QUEUE}\x06\x166", 0, -1) == [text]
    assert not server.exists(KEYS.unacked, KEYS.unacked_index)


def test_messages_of_a_dead_worker_return_by_the_page(
    connect: Connect, server: redis.Redis
) -> None:
    dead, alive = connect(), connect(visibility_timeout=1)
    publish(dead, *range(1_100))
    before = server.lrange(QUEUE, 0, -1)
    _, received = consume(dead)
    drain(dead, lambda: server.llen(QUEUE) == 0)
    for tag in server.zrange(KEYS.unacked_index, 0, -1):
        server.zincrby(KEYS.unacked_index, -100, tag)
    server.zadd(KEYS.unacked_index, {"gone": 1})

    channel = alive.channel()
    channel.qos.restore_visible(interval=1)

    assert sorted(server.lrange(QUEUE, 0, -1)) == sorted(before)
    assert not server.exists(KEYS.unacked, KEYS.unacked_index)
    assert received


def test_messages_are_not_returned_before_the_timeout(
    connect: Connect, server: redis.Redis
) -> None:
    connection = connect(visibility_timeout=60)
    publish(connection, "a")
    _, received = consume(connection)
    drain(connection, lambda: received)
    connection.channel().qos.restore_visible(interval=1)
    assert server.hlen(KEYS.unacked) == 1
    assert waiting(server) == 0


def test_a_message_of_a_stock_worker_is_returned_where_it_came_from(
    connect: Connect, server: redis.Redis
) -> None:
    connection = connect(visibility_timeout=1)
    channel = connection.channel()
    Queue(QUEUE, exchange="e", routing_key="k")(channel).declare()
    entry = json.dumps([json.loads(raw_message('"a"')), "e", "k"])
    server.hset(KEYS.unacked, "tag-1", entry)
    server.zadd(KEYS.unacked_index, {"tag-1": 1})
    server.hset(KEYS.unacked, "tag-2", "not JSON")
    server.zadd(KEYS.unacked_index, {"tag-2": 2})

    channel.qos.restore_visible(interval=1)

    assert waiting(server) == 1
    assert not server.exists(KEYS.unacked, KEYS.unacked_index)
    assert server.xlen(KEYS.dead) == 1


def age(server: redis.Redis, by_s: float) -> None:
    """As if what is unacknowledged had been fetched so much earlier."""
    for tag in server.zrange(KEYS.unacked_index, 0, -1):
        server.zincrby(KEYS.unacked_index, -by_s, tag)


def test_what_is_worked_on_is_extended_and_returns_without(
    server: redis.Redis, connect: Connect
) -> None:
    ours, other = connect(visibility_timeout=60), connect(visibility_timeout=60)
    publish(ours, *range(3))
    channel, received = consume(ours)
    drain(ours, lambda: len(received) == 3)
    sweeper = other.channel()
    received[0].ack()

    age(server, 61)
    Extender(channel).extend()
    sweeper.qos.restore_visible()
    assert server.llen(QUEUE) == 0

    age(server, 61)
    sweeper.qos.restore_visible()
    assert server.llen(QUEUE) == 2
    assert not server.exists(KEYS.unacked)


def test_what_another_has_meanwhile_is_not_extended(server: redis.Redis, connect: Connect) -> None:
    slow, other = connect(visibility_timeout=60), connect(visibility_timeout=60)
    publish(slow, "once")
    channel, received = consume(slow, prefetch=1)
    drain(slow, lambda: received)
    age(server, 61)
    sweeper = other.channel()
    sweeper.qos.restore_visible()
    assert server.llen(QUEUE) == 1

    Extender(channel).extend()
    assert not server.exists(KEYS.unacked_index)


def test_what_waits_to_be_delivered_and_what_is_counted_by_the_batch_is_not_extended(
    server: redis.Redis, connect: Connect
) -> None:
    connection = connect(visibility_timeout=60)
    channel, _ = consume(connection)
    channel.qos.hold(["counted by the batch"])
    assert channel.qos.list_delivered() == []
    channel.qos._delivered.clear()
