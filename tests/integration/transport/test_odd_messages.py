"""Messages that share a tag, that try to forge one, or that nobody can read."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from tests.integration.transport.support import (
    KEYS,
    QUEUE,
    Connect,
    bodies,
    consume,
    drain,
    publish,
    raw_message,
)


def test_two_messages_with_one_tag_are_both_delivered(
    connect: Connect, server: redis.Redis
) -> None:
    connection = connect()
    server.lpush(QUEUE, raw_message('"a"'), raw_message('"b"'))
    _, received = consume(connection)

    drain(connection, lambda: len(received) == 2)

    assert bodies(received) == ["a", "b"]
    assert len({message.delivery_tag for message in received}) == 2
    assert server.hlen(KEYS.unacked) == server.zcard(KEYS.unacked_index) == 2
    for message in received:
        message.ack()
    assert not server.exists(KEYS.unacked)


def test_a_message_that_is_unacknowledged_elsewhere_is_delivered_under_another_tag(
    connect: Connect, server: redis.Redis
) -> None:
    first, second = connect(), connect()
    server.lpush(QUEUE, raw_message('"a"'))
    _, by_first = consume(first)
    drain(first, lambda: by_first)
    server.lpush(QUEUE, raw_message('"a"'))
    _, by_second = consume(second)

    drain(second, lambda: by_second)
    by_first[0].ack()

    assert server.hkeys(KEYS.unacked) == [by_second[0].delivery_tag.encode()]
    by_second[0].ack()


@pytest.mark.parametrize(
    "headers",
    [
        {"delivery_tag": "forged"},
        {'x "delivery_tag': "forged"},
        {"note": '"delivery_tag": "forged"'},
        {"note": "delivery_tag"},
        {"deep": {"properties": {"delivery_tag": "forged"}}},
    ],
)
def test_no_header_is_taken_for_the_tag(
    connect: Connect, server: redis.Redis, headers: dict[str, Any]
) -> None:
    connection = connect()
    server.lpush(QUEUE, raw_message('"delivery_tag"', tag="genuine", **headers))
    _, received = consume(connection)
    drain(connection, lambda: received)
    assert received[0].delivery_tag.split("~")[0] == "genuine"
    assert server.hkeys(KEYS.unacked) == [received[0].delivery_tag.encode()]


# What nobody can read


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe not JSON",
        b"{}",
        b"[1, 2]",
        b'{"properties": {"delivery_tag": null}}',
        b'{"delivery_tag": "at the wrong place"}',
        b'{"properties": {"delivery_tag": "t"}, "broken": }',
        b'{"properties": {"delivery_tag": "t"}, "body": "\xff"}',
        b'{"properties": {"delivery_tag": "\xff"}, "body": "x"}',
        b'{"properties": {"delivery_tag": "t", "body_encoding": "base64"}, "body": "x"}',
        b'{"properties": {"delivery_tag": "t", "body_encoding": "rot13"}, "body": "x"}',
        b'{"properties": [{"delivery_tag": "t"}]}',
    ],
)
def test_what_nobody_can_read_becomes_a_dead_letter_and_others_arrive(
    connect: Connect, server: redis.Redis, text: bytes
) -> None:
    connection = connect()
    publish(connection, "before")
    server.lpush(QUEUE, text)
    publish(connection, "after")
    channel, received = consume(connection)

    drain(connection, lambda: len(received) == 2)

    ((_, letter),) = server.xrange(KEYS.dead)
    assert (letter[b"kind"], letter[b"body"]) == (b"message", text)
    assert letter[b"reason"]
    for message in received:
        message.ack()
    channel.close()
    assert not server.exists(KEYS.unacked, KEYS.unacked_index, QUEUE)
