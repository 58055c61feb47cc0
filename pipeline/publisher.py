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

import redis
from kombu.exceptions import OperationalError

from pipeline.errors import PipelineError
from pipeline.keys import Keys
from pipeline.redis_connection import RETRY_LATER
from pipeline.scripts import script

PRODUCER_REMEMBERED_S = 86_400
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_NO_REPLY = (redis.ConnectionError, redis.TimeoutError, OSError)
Render = Callable[[str], str]
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
    """One producer id and its client. Not for two threads at once: see `PublisherPool`."""

    def __init__(self, client: redis.Redis, keys: Keys, queue: str) -> None:
        self.id = secrets.token_hex(8)
        self._number = 0
        self._keys = [queue, keys.producer(self.id), keys.totals]
        self._publish = script(client, "publish")

    def next_tag(self, prefix: str) -> str:
        """Take the next number; returns the delivery tag of its message."""
        self._number += 1
        return f"{prefix}{self.id}/{self._number}"

    def send(self, message: str, events: int, timeout_s: float) -> None:
        """Send under the number taken last until Redis has taken it, for `timeout_s` at most.

        Raises kombu's OperationalError when Redis refused it, `PublishUnconfirmed` when it may have
        been taken.
        """
        deadline = time.monotonic() + timeout_s
        pause_s = _FIRST_PAUSE_S
        unanswered = False
        args: list[str | int] = [self._number, message, events, PRODUCER_REMEMBERED_S]
        while True:
            try:
                self._publish(keys=self._keys, args=args)
            except (*RETRY_LATER, *_NO_REPLY) as error:
                unanswered = unanswered or not isinstance(error, RETRY_LATER)
                if time.monotonic() + pause_s > deadline:
                    reason = f"Redis did not take the event within {timeout_s:g} s: {error}"
                    if unanswered:
                        raise PublishUnconfirmed(
                            reason, lambda again_s: self.send(message, events, again_s)
                        ) from error
                    raise OperationalError(reason) from error
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            except redis.RedisError as error:
                raise OperationalError(f"Redis refused the event: {error}") from error
            else:
                return


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
        tag = publisher.next_tag(tag_prefix)
        publisher.send(render(tag), events, timeout_s)
        self._idle.append(publisher)
