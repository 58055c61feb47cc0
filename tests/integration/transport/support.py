"""Messages sent and received by plain kombu."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import redis
from kombu import Connection, Consumer, Queue

from pipeline.redis.keys import Keys
from tests.helpers.support import eventually

QUEUE = "analytics.maintenance"
OTHER = "analytics.flush"
KEYS = Keys()

Connect = Callable[..., Connection]


def publish(connection: Connection, *bodies: Any, queue: str = QUEUE, priority: int = 0) -> None:
    channel = connection.channel()
    for body in bodies:
        message = channel.prepare_message(
            json.dumps(body),
            priority,
            "application/json",
            "utf-8",
            headers={"task": "t", "id": "i"},
        )
        channel.basic_publish(message, "", queue)
    channel.close()


def consume(connection: Connection, *queues: str, prefetch: int = 0) -> tuple[Any, list[Any]]:
    """A channel that consumes, and the list that its messages go into."""
    received: list[Any] = []
    channel = connection.channel()
    channel.basic_qos(0, prefetch, False)
    consumer = Consumer(
        channel,
        [Queue(name) for name in queues or (QUEUE,)],
        on_message=received.append,
        auto_declare=False,
        tag_prefix="test",
    )
    consumer.consume()
    channel.test_consumer = consumer
    return channel, received


def drain(connection: Connection, until: Callable[[], Any]) -> None:
    def once() -> Any:
        with contextlib.suppress(TimeoutError):
            connection.drain_events(timeout=0.2)
        return until()

    eventually(once)


def bodies(messages: list[Any]) -> list[Any]:
    return [json.loads(message.body) for message in messages]


def raw_message(body: str = "{}", tag: str = "tag-1", **headers: Any) -> str:
    return json.dumps(
        {
            "body": body,
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": headers,
            "properties": {"delivery_tag": tag, "delivery_info": {}, "priority": 0},
        }
    )


def waiting(server: redis.Redis, queue: str = QUEUE) -> int:
    return sum(server.llen(name) for name in (queue, *(f"{queue}\x06\x16{p}" for p in (3, 6, 9))))
