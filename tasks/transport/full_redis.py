"""A full Redis, past its `maxmemory`: everything goes on except publishing events.

Redis then refuses each command that may take memory, and Redis 7.0 whatever stands inside MULTI.
kombu needs such commands to declare a queue, to answer a control command and to send beat's
message: without them no worker could start, and no flush would ever make room. So nothing is said
inside MULTI, and what is refused is done by a script that may pass the limit. Events are what fills
Redis, so those are refused.
"""

from __future__ import annotations

from typing import Any

import redis as redis_py
from kombu.transport import redis
from kombu.utils.json import dumps
from redis.client import Pipeline
from redis.commands.core import Script as RedisScript

from pipeline.redis.scripts import Script

_PUSH = Script("tasks.transport.push")
_BIND = Script("tasks.transport.bind")

MOST_WAITING = 1_000
"""Any other queue takes messages past the limit up to this length: a flush that nobody carries out
must not fill Redis further."""


class Client(redis_py.Redis):
    """Pipelines are sent as they are, not inside MULTI."""

    def pipeline(self, transaction: bool = False, shard_hint: str | None = None) -> Pipeline:
        """As in redis-py, with the other default: kombu leaves it out."""
        return super().pipeline(transaction, shard_hint)


def push(channel: redis.Channel, queue: str, message: dict[str, Any]) -> None:
    """Put a message into a queue, as kombu does. Raises OutOfMemoryError when MOST_WAITING are in
    it."""
    priority = channel._get_message_priority(message, reverse=False)
    lists = [channel._q_for_pri(queue, step) for step in channel.priority_steps]
    with channel.conn_or_acquire() as client:
        _PUSH.run(
            client,
            keys=[channel._q_for_pri(queue, priority), *lists],
            args=[dumps(message), channel._expires.get(queue, 0), MOST_WAITING],
        )


def bind(channel: redis.Channel, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
    """Enter a queue in the tables of its exchange, as kombu does for one that does not expire."""
    member = channel.sep.join([routing_key or "", pattern or "", queue or ""])
    tables = (channel.keyprefix_queue, channel.keyprefix_binding_permanent)
    with channel.conn_or_acquire() as client:
        _BIND.run(client, keys=[table % exchange for table in tables], args=[member])


def refresh_binding(client: redis_py.Redis) -> RedisScript:
    """kombu's own script for queues that expire, allowed past the limit."""
    return client.register_script(f"#!lua flags=allow-oom\n{redis.REFRESH_BINDING}")
