"""The Redis transport: kombu's, except that no message ever exists only in a process's memory.

kombu pops a message and then saves it among the unacknowledged ones; a worker killed between the
two loses it. Here one script does both, for up to 500 messages at a time. kombu's formats are kept,
so that `purge`, `inspect`, Flower and stock clients go on working.

A channel has one request at a time under way, on the connection that kombu uses for BRPOP:

    LOOK   `BLMOVE q q RIGHT RIGHT`: answers when the queue has a message, and takes nothing
    FETCH  the fetch script; while it finds messages, the next is sent before these are worked on
    PING   something to wake up for: messages wait for delivery, and there is no room to fetch more
    REST   a wait at the server in place of LOOK, which Redis refuses when it is full
    BRPOP  kombu's own way, for consumers that do not acknowledge (replies of control commands)

A lost reply costs time, not messages: they return after the visibility timeout.

On a full Redis all goes on, but events are refused: see `full_redis.py`. This room alone leans on
kombu's internals; tests fail when those change. `install` makes it the transport of redis, rediss
and sentinel URLs, for the whole process: it is called in `tasks/app.py` and never from `pipeline`.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from queue import Empty
from time import monotonic
from typing import Any

import redis as redis_py
from kombu.transport import TRANSPORT_ALIASES, _transport_cache, redis, virtual
from kombu.utils.json import loads
from redis.backoff import NoBackoff
from redis.commands.core import Script as RedisScript
from redis.exceptions import NoScriptError, OutOfMemoryError
from redis.retry import Retry

from pipeline.contract import EVENTS_QUEUE
from pipeline.redis.scripts import Script
from tasks.transport import full_redis, poison
from tasks.transport.unacknowledged import MAX_BYTES, SERVER_ERRORS, QoS

_LOOK_S = 1.0
_LOOK_AT_ONE_OF_SEVERAL_S = 0.5
_DELIVERY_SLICE_S = 0.05
"""After so long a delivery lets the event loop see to control commands, timers and signals."""

_LOOK, _FETCH, _PING, _REST, _BRPOP = "LOOK", "FETCH", "PING", "REST", "BRPOP"

_OWN_OPTIONS = ("dead_letters_key", "totals_key", "refused_when_full")

Fetched = tuple[str, bytes]
"""A message as it was taken: its delivery tag and its text."""

RawHandler = Callable[[Sequence[Fetched]], list[Fetched]]
"""Takes messages before kombu builds objects of them; returns those that are to go the usual way.

Those it takes are its own to consume: they stay unacknowledged in Redis until a script removes
them. While it runs they count against the prefetch limit; if it raises, the channel gives them back
when it closes, as far as they are still there.
"""

_FETCH_SCRIPT = Script("tasks.transport.fetch")

logger = logging.getLogger(__name__)


class Channel(redis.Channel):
    """A channel to one Redis."""

    QoS = QoS
    from_transport_options = (*redis.Channel.from_transport_options, *_OWN_OPTIONS)
    dead_letters_key = "analytics:dead"
    totals_key = "analytics:totals"
    refused_when_full = EVENTS_QUEUE
    """The queue that takes nothing while Redis is full."""
    raw_handler: RawHandler | None = None
    raw_idle: Callable[[], None] | None = None
    """Called when no more messages are at hand, for what the handler has left unfinished."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.undelivered: deque[tuple[str, str, bytes]] = deque()  # queue, tag, text
        self._receivers: dict[str, Callable[[Any], None]] = {}
        self._no_ack_queues: set[str] = set()
        self._request = ""
        self._queues_of_lists: list[str] = []  # of the fetch under way
        self._look_next = False
        super().__init__(*args, **kwargs)

    # -- clients --

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        # redis-py repeats a command whose reply was lost, unless it is told not to.
        params: dict[str, Any] = super()._connparams(asynchronous)
        return {**params, "retry": Retry(NoBackoff(), 0)}

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """One client for the channel, where kombu makes one for every message."""
        if client is None:
            client = self.__dict__.get("_shared_client")
            if client is None:
                client = self._shared_client = self._create_client()
        yield client

    def _get_client(self) -> type[full_redis.Client]:
        return full_redis.Client

    def _disconnect_pools(self) -> None:
        self.__dict__.pop("_shared_client", None)
        super()._disconnect_pools()

    # -- queues, which a full server refuses kombu to fill and to declare --

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        try:
            super()._put(queue, message, **kwargs)
        except OutOfMemoryError:
            if queue == self.refused_when_full:
                raise
            full_redis.push(self, queue, message)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)
        except OutOfMemoryError:
            full_redis.bind(self, exchange, routing_key, pattern, queue)

    @cached_property
    def _refresh_binding(self) -> RedisScript:
        return full_redis.refresh_binding(self._create_client())

    # -- consumers --

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any
    ) -> Any:
        """Note the queues whose messages need no acknowledgement: those stay kombu's business."""
        consumed = super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        self._receivers[queue] = callback
        (self._no_ack_queues.add if no_ack else self._no_ack_queues.discard)(queue)
        return consumed

    def _basic_cancel(self, consumer_tag: str) -> Any:
        """Give back at once what was fetched for the consumer and not delivered yet."""
        queue = self._tag_to_queue.get(consumer_tag)
        cancelled = super()._basic_cancel(consumer_tag)
        self._receivers.pop(queue, None)
        if orphans := [tag for name, tag, _ in self.undelivered if name == queue]:
            self.undelivered = deque(item for item in self.undelivered if item[0] != queue)
            self.qos.give_back(orphans)
        return cancelled

    # -- requests: the poller calls _brpop_start, and _brpop_read when there is an answer --

    def _brpop_start(self, timeout: float | None = None) -> None:
        queues = self._queue_cycle.consume(len(self.active_queues))
        if self._no_ack_queues.issuperset(queues):  # replies of control commands
            self._request = _BRPOP
            super()._brpop_start(timeout)
        elif self.undelivered or not self._look_next:
            self._ask_for_more(queues)
        else:
            patience_s = _LOOK_S if len(queues) == 1 else _LOOK_AT_ONE_OF_SEVERAL_S
            self._ask(_LOOK, "BLMOVE", queues[0], queues[0], "RIGHT", "RIGHT", patience_s)
            self._queue_cycle.rotate(queues[0])

    def _ask_for_more(self, queues: Sequence[str]) -> None:
        room = self.qos.room()
        if queues and room:
            self._ask(_FETCH, *self._fetch_command(queues, room))
        elif self.undelivered:
            self._ask(_PING, "PING")

    def _fetch_command(self, queues: Sequence[str], limit: int) -> list[Any]:
        steps = [(queue, step) for step in self.priority_steps for queue in queues]
        self._queues_of_lists = [queue for queue, _ in steps]
        keys = [
            self.unacked_key,
            self.unacked_index_key,
            self.dead_letters_key,
            self.totals_key,
            *[self._q_for_pri(queue, step) for queue, step in steps],
        ]
        names = [json.dumps(queue) for queue in self._queues_of_lists]
        return ["EVALSHA", _FETCH_SCRIPT.sha1, len(keys), *keys, limit, MAX_BYTES, *names]

    def _ask(self, request: str, *command: Any) -> None:
        connection = self.client.connection
        self._in_poll, self._request, self._brpop_sent_at = connection, request, monotonic()
        connection.send_command(*command)

    def _brpop_read(self, **options: Any) -> bool:
        if not self._in_poll:  # the server ended an idle connection; the poller makes another
            self.client.connection.disconnect()
            raise Empty
        if self._request == _BRPOP:
            return bool(super()._brpop_read(**options))
        found: list[tuple[str, list[Fetched]]] = []
        if not self.undelivered:  # else the answer stays unread, as the call for the next slice
            found = self._read_answer()
            self._take_in(found)
        if not found and not self.undelivered:
            cycle = self.connection.cycle
            if cycle._in_protected_read and not self._in_poll:  # no event loop, so no timer either
                cycle.maybe_restore_messages()
            raise Empty
        self._deliver_slice()
        return True

    def _read_answer(self) -> list[tuple[str, list[Fetched]]]:
        """The messages of a fetch by queue, held from here on; none for any other request."""
        connection, request = self._in_poll, self._request
        self._in_poll = None
        try:
            answer = self.client.parse_response(connection, request)
        except (self.ResponseError, *self.connection_errors) as error:
            self._handle_refusal(connection, request, error)
            return []
        self._flush_brpop_reauth()
        self._look_next = request == _FETCH and not answer
        if request != _FETCH:
            return []
        found = []
        for position, *parts in answer or ():
            fetched = list(zip(map(bytes.decode, parts[::2]), parts[1::2], strict=True))
            self.qos.hold(tag for tag, _ in fetched)
            found.append((self._queues_of_lists[position - 1], fetched))
        return found

    def _handle_refusal(self, connection: Any, request: str, error: Exception) -> None:
        """Do what makes a request possible that failed, or raise."""
        if isinstance(error, NoScriptError):
            with self.conn_or_acquire() as client:
                client.script_load(_FETCH_SCRIPT.source)
        elif isinstance(error, OutOfMemoryError):
            self._ask(_REST, "BLPOP", f"{self.unacked_key}:never", _LOOK_AT_ONE_OF_SEVERAL_S)
        else:
            connection.disconnect()
            if isinstance(error, self.ResponseError):
                # A replica that was the master, a queue that is no list: to be mended elsewhere,
                # and no reason for a worker to end. It reconnects and tries again.
                message = f"{request} was refused: {error}"
                raise redis_py.ConnectionError(message) from error
            raise error

    def _take_in(self, found: Sequence[tuple[str, list[Fetched]]]) -> None:
        if not self._look_next and not self._in_poll:
            # The next messages are on their way while these are worked on.
            self._ask_for_more(self._queue_cycle.consume(len(self.active_queues)))
        for queue, fetched in found:
            self._queue_cycle.rotate(queue)
            if queue not in self._receivers:  # cancelled while the fetch was under way
                self.qos.give_back([tag for tag, _ in fetched])
                continue
            left = fetched
            if self.raw_handler is not None:
                left = self.raw_handler(fetched)
                if left or len(fetched) < len(self.qos._delivered):
                    self.qos._dirty.update({tag for tag, _ in fetched} - {tag for tag, _ in left})
                else:  # the usual case, in which nothing else is held
                    self.qos._delivered.clear()
            self.undelivered.extend((queue, tag, raw) for tag, raw in left)
        if self.raw_idle is not None and (self.undelivered or not (found and self._in_poll)):
            self.raw_idle()

    # -- delivery --

    def _deliver_slice(self) -> None:
        until_s = monotonic() + _DELIVERY_SLICE_S
        while self.undelivered:
            self._deliver_one(*self.undelivered.popleft())
            if monotonic() >= until_s:
                break
        if self.undelivered and not self._in_poll:
            self._ask_for_more(self._queue_cycle.consume(len(self.active_queues)))

    def _deliver_one(self, queue: str, tag: str, raw: bytes) -> None:
        message = self._message(tag, raw)
        if message is None:
            return
        if queue in self._no_ack_queues:
            self.qos._remove_from_indices(tag).execute()
            virtual.QoS.ack(self.qos, tag)
        try:
            self._receivers[queue](message)
        except SERVER_ERRORS:
            raise
        except Exception as error:
            poison.bury(self, tag, raw, error)

    def _message(self, tag: str, raw: bytes) -> Any:
        """kombu's message; None for what makes no sense, which is a dead letter from here on."""
        try:
            payload = loads(raw.decode())
            payload["properties"]["delivery_tag"] = tag
            message = self.Message(payload, channel=self)
        except Exception as error:
            poison.bury(self, tag, raw, error)
            return None
        self.qos.append(message, tag)
        return message

    def _receive_one(self, c: Any) -> Any:
        return poison.receive_broadcast(super()._receive_one, c, SERVER_ERRORS)

    def _deliver_fanout_message(self, message: Any, exchange: str) -> bool:
        try:
            super()._deliver_fanout_message(message, exchange)
        except SERVER_ERRORS:
            raise
        except Exception as error:
            poison.drop_broadcast(exchange, error)
        return True

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """One message or None, as in kombu; without acknowledgement kombu's own way."""
        if no_ack:
            return super().basic_get(queue, no_ack=True, **kwargs)
        with self.conn_or_acquire() as client:
            _, _, count, *rest = self._fetch_command([queue], 1)
            while answer := _FETCH_SCRIPT.run(client, keys=rest[:count], args=rest[count:]):
                _, tag, raw = answer[0]
                if (message := self._message(tag.decode(), raw)) is not None:
                    self._maybe_update_queues_expire(client, queue)
                    return message
        return None

    # -- giving back --

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        self.qos.restore_by_tag(message.delivery_tag, leftmost=leftmost)

    def close(self) -> None:
        """Give back what a fetch under way brings and what this channel holds.

        kombu gives back after it has closed the pools, which makes a new client. That one is kept,
        without its connections: a task that outlives the channel acknowledges its message with it.
        """
        if not self.closed:
            self._end_request()
            self.undelivered.clear()  # held like the rest, and given back with it in one order
        super().close()
        if (client := self.__dict__.get("_shared_client")) is not None:
            client.connection_pool.disconnect()

    def _end_request(self) -> None:
        """Leave nothing for kombu to read: it waits a second for it and then delivers it."""
        connection = self._in_poll
        if not connection or self._request == _BRPOP:
            return
        if self._request == _FETCH:
            try:
                self._read_answer()
            except SERVER_ERRORS as error:
                logger.warning("a fetch returns after the visibility timeout: %s", error)
        self._in_poll = None
        connection.disconnect()  # a look takes nothing: its answer is of no interest


class SentinelChannel(Channel, redis.SentinelChannel):
    """A channel to the master that Sentinels name."""

    from_transport_options = (*redis.SentinelChannel.from_transport_options, *_OWN_OPTIONS)
    sentinel_kwargs: dict[str, Any] | None = None

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        # redis-py would try a Sentinel that is down four times, for seconds, before the next.
        params = self._connparams(asynchronous)
        own = {name: params[name] for name in params if name.startswith("socket_")}
        self.sentinel_kwargs = own | {"retry": params["retry"]} | (self.sentinel_kwargs or {})
        return super()._sentinel_managed_pool(asynchronous)


class Transport(redis.Transport):
    """kombu's Redis transport with our channel."""

    Channel = Channel


class SentinelTransport(redis.SentinelTransport):
    """kombu's Sentinel transport with our channel."""

    Channel = SentinelChannel


def install() -> None:
    """Make these the transports of the process; call it before the first connection."""
    for alias, name in (
        ("redis", "Transport"),
        ("rediss", "Transport"),
        ("sentinel", "SentinelTransport"),
    ):
        TRANSPORT_ALIASES[alias] = f"{__name__}:{name}"
        _transport_cache.pop(alias, None)
