"""Publishing once: a message carries the number of its producer's publish, and Redis takes each
number once.

So a publish whose reply was lost is simply sent again. A producer id is random, belongs to one
thread at a time of one process, and has one publish outstanding.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import redis
from kombu.exceptions import OperationalError
from redis.exceptions import NoScriptError

from pipeline.backoff import grow_pauses
from pipeline.errors import PipelineError
from pipeline.redis.client import RETRY_LATER
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script

_PUBLISH = Script("pipeline.producer.publish")
PRODUCER_REMEMBERED_S = 86_400
_IDLE_S = 1.0
"""A connection unused for so long is looked at first: the server may have closed it."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_NO_REPLY = (redis.ConnectionError, redis.TimeoutError, OSError)
Render = Callable[[str], bytes]
"""Makes the message for a delivery tag."""


class PublishUnconfirmed(PipelineError, OperationalError):  # type: ignore[misc]
    """The broker did not confirm a message in time; it may have been taken.

    `retry()` sends it again under the same number, so it is counted once whether it was taken or
    not. Dropping the error leaves the event counted once or not at all.
    """

    def __init__(self, reason: str, retry: Callable[[float], None]) -> None:
        """`retry` takes the seconds to try for."""
        super().__init__(reason)
        self._retry = retry

    def retry(self, timeout_s: float = 30) -> None:
        """Publish the same message again. Raises `PublishUnconfirmed` when there is still no
        answer."""
        self._retry(timeout_s)


class Publisher:
    """One producer id and its connection. Not for two threads at once: see `PublisherPool`."""

    def __init__(
        self, client: redis.Redis, keys: Keys, queue: str, producer_id: str | None = None
    ) -> None:
        """`producer_id` goes on under an id whose process has died; else it is a new one."""
        self.id = producer_id or secrets.token_hex(8)
        self._number = 0
        self._connections = client.connection_pool
        self._connection: Any = None
        self._used_at_s = 0.0
        names = (queue, keys.producer(self.id), keys.totals)
        self._command = ("EVALSHA", _PUBLISH.sha1, len(names), *names)

    def next_number(self) -> int:
        """Take the next number."""
        self._number += 1
        return self._number

    def tag(self, prefix: str, number: int) -> str:
        """The delivery tag of the message with this number."""
        return f"{prefix}{self.id}/{number}"

    def send(
        self, message: bytes, events: int, timeout_s: float, number: int | None = None
    ) -> None:
        """Send under `number`, or the one taken last, until Redis has taken it or for `timeout_s`.

        Numbers must be sent in their order: Redis takes none that is not above the last.

        Raises kombu's OperationalError when Redis refused it, `PublishUnconfirmed` when it may have
        been taken.
        """
        began_s = time.monotonic()
        pauses = grow_pauses(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, began_s + timeout_s)
        unanswered = False
        number = number or self._number
        while True:
            try:
                self._call(began_s, number, message, events, PRODUCER_REMEMBERED_S)
            except (*RETRY_LATER, *_NO_REPLY) as error:
                unanswered = unanswered or not isinstance(error, RETRY_LATER)
                pause_s = next(pauses, None)
                if pause_s is None:
                    reason = f"Redis did not take the event within {timeout_s:g} s: {error}"
                    if unanswered:
                        raise PublishUnconfirmed(
                            reason, lambda again_s: self.send(message, events, again_s, number)
                        ) from error
                    raise OperationalError(reason) from error
                time.sleep(pause_s)
            except redis.RedisError as error:
                raise OperationalError(f"Redis refused the event: {error}") from error
            else:
                return

    def close(self) -> None:
        """Close the connection; the next `send` opens it again."""
        if self._connection is not None:
            self._connection.disconnect()

    def _call(self, now_s: float, *args: Any) -> None:
        """Run the publish script, on a connection of our own: half the time of a client's call."""
        connection = self._connection
        if connection is None:
            connection = self._connection = self._connections.get_connection()
        elif now_s - self._used_at_s > _IDLE_S:
            _drop_if_closed(connection)
        self._used_at_s = now_s
        connection.send_command(*self._command, *args)
        try:
            connection.read_response()
        except NoScriptError:
            connection.send_command("SCRIPT", "LOAD", _PUBLISH.source)
            connection.read_response()
            connection.send_command(*self._command, *args)
            connection.read_response()


def _drop_if_closed(connection: Any) -> None:
    try:
        closed = connection.can_read(timeout=0)  # nothing was asked, so this is the end
    except (redis.RedisError, OSError):
        closed = True
    if closed:
        connection.disconnect()


class PublisherPool:
    """Publishers for any number of threads; a forked child begins with none of its parent's."""

    def __init__(self, make: Callable[[], Publisher]) -> None:
        self._make = make
        self._idle: deque[Publisher] = deque()
        os.register_at_fork(after_in_child=self._idle.clear)

    def publish(self, tag_prefix: str, render: Render, events: int, timeout_s: float) -> None:
        """Publish the message that `render` makes; when this returns, its events are accepted.

        Raises as `Publisher.send`; an unconfirmed publish keeps its publisher, so that its number
        stays the last.
        """
        try:
            publisher = self._idle.pop()
        except IndexError:
            publisher = self._make()
        number = publisher.next_number()
        publisher.send(render(publisher.tag(tag_prefix, number)), events, timeout_s, number)
        self._idle.append(publisher)
