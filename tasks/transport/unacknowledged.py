"""What a channel of our Redis transport holds unacknowledged, and how it goes back into the queue.

kombu restores one message at a time, by an optimistic transaction that watches all unacknowledged
messages, under a lock that outlives a killed worker by five minutes. Here a script does it, by the
page and without a lock. Messages go back byte for byte and so are not marked as redelivered.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import redis as redis_py
from kombu.transport import redis, virtual
from kombu.utils.json import loads

from pipeline.redis.scripts import Script
from tasks.transport import poison

_RESTORE_FOREIGN = Script("tasks.transport.restore_foreign")

MAX_MESSAGES = 500
MAX_BYTES = 4 * 1024 * 1024
"""The most that one run of a script takes: Redis is held for a few milliseconds."""

RESTORE_PAGES = 20
"""A sweep gives back at most so many times MAX_MESSAGES; the next one goes on."""

SERVER_ERRORS = (OSError, redis_py.RedisError)
"""Redis is away or refuses. kombu's list has KeyError too, which a bad message may well raise."""

logger = logging.getLogger(__name__)


class QoS(redis.QoS):
    """Unacknowledged messages: entered by the fetch script, given back by the restore script.

    `_delivered` has every message of this channel. One that is not delivered yet has no object.
    """

    def can_consume(self) -> bool:
        """Whether to go on reading: what waits for delivery is within the limit already."""
        return bool(self.channel.undelivered) or bool(super().can_consume())

    def room(self) -> int:
        """How many messages the next fetch may take."""
        room = self.can_consume_max_estimate()
        return MAX_MESSAGES if room is None else min(room, MAX_MESSAGES)

    def hold(self, tags: Iterable[str]) -> None:
        """Count what was fetched against the prefetch limit."""
        self._flush()
        self._delivered.update(dict.fromkeys(tags))

    def append(self, message: Any, delivery_tag: str) -> None:
        """Remember a message that the fetch script has entered in Redis already."""
        virtual.QoS.append(self, message, delivery_tag)

    def list_delivered(self) -> list[str]:
        """Delivery tags of the messages that Celery has and has not acknowledged. Other threads may
        ask."""
        # One call of C, in which no other thread can change it.
        held = self._delivered.copy()
        done = self._dirty.copy()
        return [tag for tag, message in held.items() if message is not None and tag not in done]

    def _remove_from_indices(self, delivery_tag: str, pipe: Any = None) -> Any:
        # A full Redis refuses whatever is said inside MULTI, acknowledgements too. Without it the
        # two may be cut apart, so the hash is first: a sweep removes the rest of that.
        if pipe is None:
            with self.channel.conn_or_acquire() as client:
                pipe = client.pipeline(transaction=False)
        return pipe.hdel(self.unacked_key, delivery_tag).zrem(self.unacked_index_key, delivery_tag)

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 1) -> None:
        """Give back what was fetched longer ago than the visibility timeout, whoever fetched it."""
        self._vrestore_count += 1
        if (self._vrestore_count - 1) % (interval or 1):
            return
        try:
            for _ in range(RESTORE_PAGES):
                if not self.restore("RPUSH", "older", self.visibility_timeout, MAX_MESSAGES):
                    break
        except SERVER_ERRORS as error:
            logger.warning("messages of dead workers return later: %s", error)

    def restore_unacked(self, client: Any = None) -> list[Any]:
        """Give back what this channel holds, in its order; Redis keeps it when it is away."""
        self._flush()
        tags = list(self._delivered)
        self.channel.undelivered.clear()
        self._delivered.clear()
        self.give_back(tags)
        return []

    def give_back(self, tags: Sequence[str]) -> None:
        """Put messages back, the first of them to be consumed next."""
        self._dirty.update(tags)
        pages = [tags[first : first + MAX_MESSAGES] for first in range(0, len(tags), MAX_MESSAGES)]
        try:
            for page in reversed(pages):
                while page:
                    page = page[self.restore("RPUSH", "tags", *page) :]
        except SERVER_ERRORS as error:
            logger.warning("%d messages return after the visibility timeout: %s", len(tags), error)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Give back one message, if it is still there."""
        self.restore("LPUSH" if leftmost else "RPUSH", "tags", tag)

    def restore(self, push: str, mode: str, *args: Any) -> int:
        """Put unacknowledged messages back into their queues; returns how many were dealt with.

        `push` is "RPUSH" for the consuming end or "LPUSH"; `mode` is "older" (seconds, at most) or
        "tags". A repeat finds nothing left to do.
        """
        keys = [self.unacked_key, self.unacked_index_key, self.channel.dead_letters_key]
        priorities = ",".join(str(step) for step in self.channel.priority_steps)
        with self.channel.conn_or_acquire() as client:
            dealt, _, *foreign = Script("tasks.transport.restore").run(
                client, keys=keys, args=[push, MAX_BYTES, self.channel.sep, priorities, mode, *args]
            )
        for tag in foreign:
            self._restore_foreign(tag.decode(), push)
        return int(dealt)

    def _restore_foreign(self, tag: str, push: str) -> None:
        """Give back what a stock worker fetched of an exchange: kombu's tables know its queues."""
        with self.channel.conn_or_acquire() as client:
            entry = client.hget(self.unacked_key, tag)
            if entry is None:
                return
            pushes, reason = _Pushes(), Exception("its exchange leads to no queue")
            try:
                message, exchange, routing_key = loads(entry.decode())
                self.channel._do_restore_message(message, exchange, routing_key, pushes)
            except SERVER_ERRORS:
                raise
            except Exception as error:
                reason = error
            if not pushes:
                poison.bury(self.channel, tag, entry, reason)
                return
            keys = [self.unacked_key, self.unacked_index_key, *(key for key, _ in pushes)]
            _RESTORE_FOREIGN.run(client, keys=keys, args=[tag, push, pushes[0][1]])


class _Pushes(list[tuple[str, str]]):
    """Takes the place of kombu's pipeline: notes what it would push, and where."""

    def rpush(self, key: str, text: str) -> None:
        self.append((key, text))
