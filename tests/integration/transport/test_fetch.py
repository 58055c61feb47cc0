"""Messages arrive: all of them, in order, entered as unacknowledged, within the limits."""

from __future__ import annotations

import json

import pytest
import redis

from tests.integration.transport.support import (
    KEYS,
    OTHER,
    QUEUE,
    Connect,
    bodies,
    consume,
    drain,
    publish,
)


def test_messages_arrive_in_order_and_are_unacknowledged_in_kombus_format(
    connect: Connect, server: redis.Redis
) -> None:
    connection = connect()
    publish(connection, *range(5))
    texts = server.lrange(QUEUE, 0, -1)[::-1]
    _, received = consume(connection)

    drain(connection, lambda: len(received) == 5)

    assert bodies(received) == list(range(5))
    for message, text in zip(received, texts, strict=True):
        entry = server.hget(KEYS.unacked, message.delivery_tag)
        assert entry is not None
        assert json.loads(entry) == [json.loads(text), "", QUEUE]
        assert text in entry, "the bytes of the message are those that were published"
        assert server.zscore(KEYS.unacked_index, message.delivery_tag) is not None


def test_an_acknowledged_message_is_gone(connect: Connect, server: redis.Redis) -> None:
    connection = connect()
    publish(connection, "a")
    channel, received = consume(connection)
    drain(connection, lambda: received)

    received[0].ack()
    channel.close()

    assert not server.exists(KEYS.unacked, KEYS.unacked_index, QUEUE)


def test_no_more_is_fetched_than_the_prefetch_limit(connect: Connect, server: redis.Redis) -> None:
    connection = connect()
    publish(connection, *range(10))
    _, received = consume(connection, prefetch=3)

    drain(connection, lambda: len(received) == 3)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.5)
    assert server.hlen(KEYS.unacked) == 3

    received[0].ack()
    drain(connection, lambda: len(received) == 4)
    assert server.hlen(KEYS.unacked) == 3


def test_a_higher_priority_is_fetched_first(connect: Connect) -> None:
    connection = connect()
    publish(connection, "low", priority=0)
    publish(connection, "high", priority=9)
    publish(connection, "middle", priority=5)
    _, received = consume(connection)

    drain(connection, lambda: len(received) == 3)

    # Redis's transport counts 0 as the highest priority, as kombu documents.
    assert bodies(received) == ["low", "middle", "high"]


def test_several_queues_get_their_turns(connect: Connect) -> None:
    connection = connect()
    publish(connection, *range(20))
    publish(connection, "other", queue=OTHER)
    _, received = consume(connection, QUEUE, OTHER, prefetch=1)

    def other_arrived() -> bool:
        for message in received:
            if not message.acknowledged:
                message.ack()
        return "other" in bodies(received)

    drain(connection, other_arrived)
    assert len(received) <= 3, "a full queue must not hold up another"


def test_an_idle_consumer_notices_each_of_its_queues(connect: Connect) -> None:
    connection = connect()
    _, received = consume(connection, QUEUE, OTHER)
    for queue in (OTHER, QUEUE, OTHER):
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.1)
        publish(connection, queue, queue=queue)
        count = len(received)
        drain(connection, lambda count=count: len(received) > count)
    assert bodies(received) == [OTHER, QUEUE, OTHER]


def test_basic_get_takes_one_and_enters_it(connect: Connect, server: redis.Redis) -> None:
    connection = connect()
    publish(connection, "a", "b")
    channel = connection.channel()

    message = channel.basic_get(QUEUE)

    assert json.loads(message.body) == "a"
    assert server.hexists(KEYS.unacked, message.delivery_tag)
    message.ack()
    assert not server.exists(KEYS.unacked)
    assert json.loads(channel.basic_get(QUEUE, no_ack=True).body) == "b"
    assert channel.basic_get(QUEUE) is None
    assert not server.exists(KEYS.unacked)


def test_a_server_that_has_forgotten_the_scripts_is_sent_them_again(
    connect: Connect, server: redis.Redis
) -> None:
    connection = connect()
    _, received = consume(connection)
    for number in range(3):
        server.script_flush()
        publish(connection, number)
        drain(connection, lambda number=number: len(received) == number + 1)


def test_a_full_server_is_drained(connect: Connect, server: redis.Redis) -> None:
    connection = connect()
    publish(connection, "a")
    channel, received = consume(connection)
    limit = server.config_get("maxmemory")["maxmemory"]
    try:
        server.config_set("maxmemory", 1)
        drain(connection, lambda: received)
        received[0].ack()
        for _ in range(3):  # a look is refused now, and must neither end nor spin the consumer
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.6)
    finally:
        server.config_set("maxmemory", limit)
    assert not server.exists(KEYS.unacked)
    publish(connection, "b")
    drain(connection, lambda: len(received) == 2)
    channel.close()


def test_a_queue_that_is_no_list_is_a_lost_connection_and_changes_nothing(
    connect: Connect, server: redis.Redis
) -> None:
    connection = connect()
    server.set(QUEUE, "not a list")
    _, received = consume(connection)
    with pytest.raises(connection.connection_errors):
        drain(connection, lambda: received)
    server.delete(QUEUE)
    publish(connection, "a")
    drain(connection, lambda: received)
