"""The Redis transport: kombu's, except that no message ever exists only in a process's memory.

kombu pops a message and then saves it among the unacknowledged ones; a worker killed between the
two loses it. Here one script does both, for up to 500 messages at a time. kombu's formats are kept,
so that `purge`, `inspect`, Flower and stock clients go on working. Waiting is a blocking look at
the queue that takes nothing (`BLMOVE q q RIGHT RIGHT`), on the connection that kombu uses for
BRPOP.

This module leans on kombu's internals, is alone in it, and is held by tests that fail when they
change. `install` makes it the transport of the URL schemes redis, rediss and sentinel, for the
whole process: it is called in `tasks/app.py` and never from `pipeline`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty
from time import monotonic
from typing import Any

import redis as redis_py
from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from kombu.utils.json import loads
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline.scripts import script, source

MAX_MESSAGES = 500
MAX_BYTES = 4 * 1024 * 1024
_LOOK_S = 1.0
_LOOK_AT_ONE_OF_SEVERAL_S = 0.5

Fetched = tuple[str, bytes]
"""A message as it was taken: its delivery tag and its text."""

RawHandler = Callable[[Sequence[Fetched]], list[Fetched]]
"""Takes messages before kombu builds objects of them; returns those that are to go the usual way.

Those it takes are its own to consume: they stay unacknowledged in Redis until a script removes
them.
"""

logger = logging.getLogger(__name__)


class QoS(redis.QoS):
    """Unacknowledged messages: entered by the fetch script, given back by the restore script."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Remember a message that the fetch script has entered in Redis already."""
        virtual.QoS.append(self, message, delivery_tag)

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 1) -> None:
        """Give back what was fetched longer ago than the visibility timeout, whoever fetched it."""
        self._vrestore_count += 1
        if (self._vrestore_count - 1) % (interval or 1) == 0:
            while self.channel.restore("RPUSH", "older", self.visibility_timeout, MAX_MESSAGES):
                pass

    def restore_unacked(self, client: Any = None) -> list[Any]:
        """Give back what this channel holds; Redis keeps it for a later restore when it is away."""
        self._flush()
        tags = list(self._delivered)
        self._delivered.clear()
        try:
            for first in range(0, len(tags), MAX_MESSAGES):
                self.channel.restore("RPUSH", "tags", *tags[first : first + MAX_MESSAGES])
        except (*self.channel.connection_errors, redis_py.RedisError) as error:
            logger.warning("%d messages return after the visibility timeout: %s", len(tags), error)
        return []

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Give back one message, if it is still there."""
        self.channel.restore("LPUSH" if leftmost else "RPUSH", "tags", tag)


class _FetchingChannel:
    """What our channels do otherwise than kombu's; mixed in before one of them."""

    QoS = QoS
    from_transport_options = (
        *redis.Channel.from_transport_options,
        "dead_letters_key",
        "totals_key",
    )
    dead_letters_key = "analytics:dead"
    totals_key = "analytics:totals"
    raw_handler: RawHandler | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._no_ack_queues: set[str] = set()
        self._fetching: list[str] | None = None  # queues of the lists of a fetch under way
        self._look_next = False
        self._looks = 0
        super().__init__(*args, **kwargs)

    # -- clients --

    def _connparams(self: Any, asynchronous: bool = False) -> dict[str, Any]:
        # redis-py repeats a command whose reply was lost, unless it is told not to.
        params: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]
        return {**params, "retry": Retry(NoBackoff(), 0)}

    @contextmanager
    def conn_or_acquire(self: Any, client: Any = None) -> Iterator[Any]:
        """One client for the channel, where kombu makes one for every message."""
        if client is None:
            client = self.__dict__.get("_shared_client")
            if client is None:
                client = self._shared_client = self._create_client()
        yield client

    def _disconnect_pools(self: Any) -> None:
        self.__dict__.pop("_shared_client", None)
        super()._disconnect_pools()  # type: ignore[misc]

    # -- taking messages: the poller calls _brpop_start, and _brpop_read when there is an answer --
    # _brpop_read --

    def basic_consume(self: Any, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        """Note the queues whose messages need no acknowledgement: those stay kombu's business."""
        if no_ack:
            self._no_ack_queues.add(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)  # type: ignore[misc]

    def _brpop_start(self: Any, timeout: float | None = None) -> None:
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        if self._no_ack_queues.issuperset(queues):  # replies of control commands
            super()._brpop_start(timeout)  # type: ignore[misc]
            return
        room = self.qos.can_consume_max_estimate()
        room = MAX_MESSAGES if room is None else min(room, MAX_MESSAGES)
        if self._look_next:
            queue = queues[self._looks % len(queues)]
            self._looks += 1
            patience_s = _LOOK_S if len(queues) == 1 else _LOOK_AT_ONE_OF_SEVERAL_S
            command: list[Any] = ["BLMOVE", queue, queue, "RIGHT", "RIGHT", patience_s]
            self._fetching = None
        else:
            command = self._fetch_command(queues, room)
        self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()
        self._in_poll.send_command(*command)

    def _fetch_command(self: Any, queues: Sequence[str], limit: int) -> list[Any]:
        steps = [(queue, step) for step in self.priority_steps for queue in queues]
        self._fetching = [queue for queue, _ in steps]
        keys = [
            self.unacked_key,
            self.unacked_index_key,
            self.dead_letters_key,
            self.totals_key,
            *[self._q_for_pri(queue, step) for queue, step in steps],
        ]
        names = [json.dumps(queue) for queue in self._fetching]
        return ["EVALSHA", _FETCH_SHA, len(keys), *keys, limit, MAX_BYTES, *names]

    def _brpop_read(self: Any, **options: Any) -> bool:
        if self._no_ack_queues.issuperset(self.active_queues):
            return bool(super()._brpop_read(**options))  # type: ignore[misc]
        found = self._read_answer(options)
        if not found:
            raise Empty
        if self.raw_handler is not None:
            # The next messages are on their way while these are worked on.
            self._brpop_start()
        for queue, fetched in found:
            self._deliver_fetched(queue, fetched)
        return True

    def _read_answer(self: Any, options: dict[str, Any]) -> list[tuple[str, list[Fetched]]]:
        """The messages of a fetch by queue; none when the answer was that of a look."""
        fetching, self._fetching = self._fetching, None
        try:
            answer = self.client.parse_response(self.client.connection, "EVALSHA", **options)
        except redis_py.exceptions.NoScriptError:
            with self.conn_or_acquire() as client:
                client.script_load(source("fetch"))
            return []
        except self.connection_errors:
            self.client.connection.disconnect()
            raise
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if fetching is None:
            self._look_next = False
            return []
        self._look_next = not answer
        return [
            (fetching[position - 1], list(_pairs(messages))) for position, *messages in answer or ()
        ]

    def _deliver_fetched(self: Any, queue: str, fetched: list[Fetched]) -> None:
        if self.raw_handler is not None:
            fetched = self.raw_handler(fetched)
        for tag, raw in fetched:
            self._deliver_one(queue, tag, raw)

    def _deliver_one(self: Any, queue: str, tag: str, raw: bytes) -> None:
        """Deliver as kombu does. A message that nobody can handle must not end the worker."""
        try:
            payload = loads(raw.decode())
            payload["properties"]["delivery_tag"] = tag
            if queue in self._no_ack_queues:
                self.qos._remove_from_indices(tag).execute()
            self.connection._deliver(payload, queue)
        except (OSError, redis_py.RedisError):
            # Not kombu's connection_errors: KeyError is one of them, and a message that lacks a
            # header would be given back, fetched and given back without end.
            raise
        except Exception as error:
            logger.exception("message %s of %s becomes a dead letter", tag, queue)
            with self.conn_or_acquire() as client:
                keys = [
                    self.unacked_key,
                    self.unacked_index_key,
                    self.dead_letters_key,
                    self.totals_key,
                ]
                script(client, "bury")(keys=keys, args=[tag, raw, f"message: {error!r}"])
            virtual.QoS.ack(self.qos, tag)

    def _get(self: Any, queue: str) -> Any:
        """One message for `basic_get`, entered among the unacknowledged ones like all others."""
        with self.conn_or_acquire() as client:
            command = self._fetch_command([queue], 1)
            self._fetching = None
            try:
                answer = client.execute_command(*command)
            except redis_py.exceptions.NoScriptError:
                client.script_load(source("fetch"))
                answer = client.execute_command(*command)
        if not answer:
            raise Empty
        ((tag, raw),) = _pairs(answer[0][1:])
        payload = loads(raw.decode())
        payload["properties"]["delivery_tag"] = tag
        return payload

    def basic_get(self: Any, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """One message or None, as in kombu."""
        message = super().basic_get(queue, no_ack=no_ack, **kwargs)  # type: ignore[misc]
        if message is not None and no_ack:
            self.qos._remove_from_indices(message.delivery_tag).execute()
        return message

    # -- giving back --

    def restore(self: Any, push: str, mode: str, *args: Any) -> int:
        """Put unacknowledged messages back into their queues; returns how many were dealt with.

        `push` is "RPUSH" for the consuming end or "LPUSH"; `mode` is "older" (seconds, at most) or
        "tags". A repeat finds nothing left to do.
        """
        keys = [self.unacked_key, self.unacked_index_key, self.dead_letters_key]
        priorities = ",".join(str(step) for step in self.priority_steps)
        with self.conn_or_acquire() as client:
            dealt, _, *foreign = script(client, "restore")(
                keys=keys, args=[push, MAX_BYTES, self.sep, priorities, mode, *args]
            )
        for tag in foreign:  # published to an exchange: only kombu's tables know the queues
            redis.QoS.restore_by_tag(self.qos, tag.decode(), leftmost=push == "LPUSH")
        return int(dealt)

    def _restore(self: Any, message: Any, leftmost: bool = False) -> None:
        self.qos.restore_by_tag(message.delivery_tag, leftmost=leftmost)

    def close(self: Any) -> None:
        """Give back what a fetch under way brings, and then what this channel holds."""
        if self._in_poll and self._fetching is not None:
            try:
                found = self._read_answer({})
                tags = [tag for _, fetched in found for tag, _ in fetched]
                if tags:
                    self.restore("RPUSH", "tags", *tags)
            except (*self.connection_errors, redis_py.RedisError) as error:
                logger.warning("a fetch returns after the visibility timeout: %s", error)
        if not self._no_ack_queues.issuperset(self.active_queues):
            self._in_poll = None  # a look takes nothing: its answer is of no interest
        super().close()  # type: ignore[misc]


class Channel(_FetchingChannel, redis.Channel):
    """A channel to one Redis."""


class SentinelChannel(_FetchingChannel, redis.SentinelChannel):
    """A channel to the master that Sentinels name."""

    from_transport_options = (
        *redis.SentinelChannel.from_transport_options,
        "dead_letters_key",
        "totals_key",
    )


class Transport(redis.Transport):
    """kombu's Redis transport with our channel."""

    Channel = Channel


class SentinelTransport(redis.SentinelTransport):
    """kombu's Sentinel transport with our channel."""

    Channel = SentinelChannel


def install() -> None:
    """Make these the transports of the process; call it before the first connection."""
    here = __name__
    TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = f"{here}:Transport"
    TRANSPORT_ALIASES["sentinel"] = f"{here}:SentinelTransport"


_FETCH_SHA = hashlib.sha1(source("fetch"), usedforsecurity=False).hexdigest()


def _pairs(tags_and_texts: Sequence[bytes]) -> Iterator[Fetched]:
    parts = iter(tags_and_texts)
    return ((tag.decode(), text) for tag, text in zip(parts, parts, strict=True))
