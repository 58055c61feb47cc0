"""Publishing once: a message carries the number of its producer's publish, and Redis takes each
number once.

So a publish whose reply was lost is simply sent again. A producer id is random, belongs to one
thread at a time of one process, and has one publish outstanding.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis
from kombu.exceptions import OperationalError
from redis.exceptions import NoScriptError

from pipeline.backoff import grow_pauses
from pipeline.contract import TAG_PREFIX
from pipeline.errors import PipelineError
from pipeline.redis.client import RETRY_LATER
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Call, Script

PRODUCER_REMEMBERED_S = 86_400
_PUBLISH = Script("pipeline.producer.publish")
_IDLE_S = 1.0
"""A connection unused for so long is checked first: the server may have closed it."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_NO_REPLY = (redis.ConnectionError, redis.TimeoutError, OSError)


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
        """Publish the message again. Raises `PublishUnconfirmed` when there is still no answer."""
        self._retry(timeout_s)


class Publisher:
    """One producer id and its connection. Not for two threads at once."""

    def __init__(
        self, client: redis.Redis, keys: Keys, queue: str, producer_id: str | None = None
    ) -> None:
        """`producer_id` goes on under an id whose process has died; else it is a new one."""
        self.id = producer_id or secrets.token_hex(8)
        self.tag_prefix = f"{TAG_PREFIX}{self.id}/"
        """Followed by the number of a publish: the delivery tag of its message."""
        self.last_number = 0
        self._connections = client.connection_pool
        self._connection: Any = None
        self._used_at_s = 0.0
        self._keys = (queue, keys.producer(self.id), keys.totals)
        self._command = ("EVALSHA", _PUBLISH.sha1, len(self._keys), *self._keys)

    def send(
        self, message: bytes, events: int, timeout_s: float, number: int | None = None
    ) -> None:
        """Send under `number`, or the last, until Redis has taken it or for `timeout_s`.

        Numbers must be sent in their order: Redis takes none that is not above the last.

        Raises kombu's OperationalError when Redis refused it, `PublishUnconfirmed` when it may have
        been taken.
        """
        began_s = time.monotonic()
        unanswered = False
        pauses: Iterator[float] | None = None
        number = number or self.last_number
        args = (number, message, events, PRODUCER_REMEMBERED_S)
        while True:
            try:
                connection = self._connection
                if connection is None or began_s - self._used_at_s > _IDLE_S:
                    connection = self._open()
                self._used_at_s = began_s
                # On a connection of our own: half the time of a client's call.
                connection.send_command(*self._command, *args)
                try:
                    connection.read_response()
                except NoScriptError:
                    # Sent again by the ordinary call, which loads the script.
                    Call(_PUBLISH, connection, self._keys, args).answer()
                return
            except (*RETRY_LATER, *_NO_REPLY) as error:
                unanswered = unanswered or not isinstance(error, RETRY_LATER)
                pauses = pauses or grow_pauses(
                    _FIRST_PAUSE_S, _LONGEST_PAUSE_S, began_s + timeout_s
                )
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

    def close(self) -> None:
        """Close the connection; the next `send` opens it again."""
        if self._connection is not None:
            self._connection.disconnect()

    def _open(self) -> Any:
        """The connection, closed here where the server has closed it: it then opens again."""
        if self._connection is None:
            self._connection = self._connections.get_connection()
            return self._connection
        try:
            closed = self._connection.can_read(timeout=0)  # nothing was asked, so this is the end
        except (redis.RedisError, OSError):
            closed = True
        if closed:
            self._connection.disconnect()
        return self._connection
