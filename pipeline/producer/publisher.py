"""Publishing once: a message carries the number of its producer's publish, and Redis takes each
number once.

So a publish whose reply was lost is simply sent again. A producer id is random, belongs to one
thread at a time of one process, and has one publish outstanding.

The Celery message around an event is made once for each task, then only filled in: byte for byte
what kombu's Redis transport would put into the queue, so that stock Celery workers, clients and
Flower read it. Its delivery tag names the producer and the number of its publish.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from binascii import b2a_base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import msgspec
import redis
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import NoScriptError

from pipeline.backoff import grow_pauses
from pipeline.contract import TAG_PREFIX
from pipeline.errors import PipelineError
from pipeline.redis.client import RETRY_LATER
from pipeline.redis.connections import take_connection
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Call, Script

_EMBEDDED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_PLACES = re.compile(r'"@@(\w+)@@"')
_HEADERS = b'"headers": {'
_SHOWN_CHARACTERS = 1024
_encode = msgspec.json.Encoder().encode
PRODUCER_REMEMBERED_S = 86_400
_PUBLISH = Script("pipeline.producer.publish")
_ARGUMENTS = b"$%d\r\n%d\r\n$%d\r\n%d\r\n$%d\r\n%b\r\n"
"""Those of a call of the script that differ, each with its length: number, events and message."""
_IDLE_S = 1.0
"""A connection unused for so long is checked first: the server may have closed it."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_NO_REPLY = (redis.ConnectionError, redis.TimeoutError, OSError)


class Envelope:
    """The messages of one task to one queue, from this process."""

    def __init__(
        self, app: Celery, task: str, queue: str, headers: Mapping[str, Any] | None = None
    ) -> None:
        """`headers` are added to Celery's own."""
        rendered = app.amqp.as_task_v2(
            "@@id@@", task, argsrepr="@@args@@", kwargsrepr="@@kwargs@@", ignore_result=True
        )
        message = {
            "body": "@@body@@",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {**rendered.headers, **(headers or {})},
            "properties": {
                **rendered.properties,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": "@@tag@@",
            },
        }
        text = json.dumps(message).replace("%", "%%")
        filled_in = _PLACES.sub(r"%(\1)b", text).replace("%(body)b", '"%(body)b"')
        self._template = filled_in.encode()

    def message(
        self, task_id: str, tag: str, args: Sequence[Any], kwargs: Mapping[str, Any], shown: str
    ) -> bytes:
        """The message with these arguments, which must be JSON-ready. Tools show `args` as `shown`,
        cut as Celery cuts it."""
        shown_kwargs = repr(kwargs)
        if len(shown) > _SHOWN_CHARACTERS or len(shown_kwargs) > _SHOWN_CHARACTERS:
            shown, shown_kwargs = _cut(shown), _cut(shown_kwargs)
        return self._template % {
            b"id": _encode(task_id),
            b"tag": _encode(tag),
            b"body": b2a_base64(_encode((args, kwargs, _EMBEDDED)), newline=False),
            b"args": _encode(shown),
            b"kwargs": _encode(shown_kwargs),
        }

    def message_of_events(self, task_id: str, tag: str, events: Sequence[bytes]) -> bytes:
        """The message of `track_events` with these events, each of them JSON already."""
        joined = msgspec.Raw(b"[%b]" % b",".join(events))
        return self.message(task_id, tag, (joined,), {}, f"([… {len(events)} events],)")


class TracedEnvelope(Envelope):
    """Messages that carry the trace of the call in which they are made."""

    def __init__(self, *args: Any) -> None:
        from pipeline.traces.carried import make_headers  # loads OpenTelemetry

        super().__init__(*args)
        self._make_headers = make_headers

    def message(self, *args: Any, **named: Any) -> bytes:
        message, headers = super().message(*args, **named), self._make_headers()
        if not headers:
            return message
        # No text in JSON has quotes as they are. From the end: a body may be large, and is before.
        at = message.rindex(_HEADERS) + len(_HEADERS)
        return b"%b%b, %b" % (message[:at], _encode(headers)[1:-1], message[at:])


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
    """One producer id and its connection. Not for two threads at once. Numbers are sent in their
    order: Redis takes none that is not above the last."""

    def __init__(
        self, client: redis.Redis, keys: Keys, queue: str, producer_id: str | None = None
    ) -> None:
        """`producer_id` goes on under an id whose process has died; else it is a new one."""
        self.id = producer_id or secrets.token_hex(8)
        self.tag_prefix = f"{TAG_PREFIX}{self.id}/"
        """Followed by the number of a publish: the delivery tag of its message."""
        self.task_id_prefix = str(uuid4())[:24]
        """Followed by the number in 12 hexadecimal digits: a task id that no other message has."""
        self.last_number = 0
        self._connections = client.connection_pool
        self._connection: Any = None
        self._used_at_s = 0.0
        self._keys = (queue, keys.producer(self.id), keys.totals)
        self._head = _begin_command(
            "EVALSHA", _PUBLISH.sha1, len(self._keys), *self._keys, PRODUCER_REMEMBERED_S
        )

    def send(
        self, message: bytes, events: int, timeout_s: float, number: int | None = None
    ) -> None:
        """Send under `number`, or the last, until Redis has taken it or for `timeout_s`.

        Raises kombu's OperationalError when Redis refused it, `PublishUnconfirmed` when it may have
        been taken.
        """
        now_s = time.monotonic()
        number = number or self.last_number
        args = (len(str(number)), number, len(str(events)), events, len(message), message)
        try:
            connection = self._connection
            if connection is None or now_s - self._used_at_s > _IDLE_S:
                connection = self._open()
            self._used_at_s = now_s
            # On a connection of our own, and packed here: a third of the time of a client's call.
            connection.send_packed_command([self._head + _ARGUMENTS % args])
            connection.read_response()
        except (redis.RedisError, OSError) as error:
            self._send_again((number, events, message), timeout_s, now_s + timeout_s, error)

    def close(self) -> None:
        """Close the connection; the next `send` opens it again."""
        if self._connection is not None:
            self._connection.disconnect()

    def _send_again(
        self,
        args: tuple[int, int, bytes],
        timeout_s: float,
        deadline_s: float,
        error: Exception,
    ) -> None:
        """Try until Redis has taken what it did not take at once because of `error`."""
        number, events, message = args
        pauses = grow_pauses(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, deadline_s)
        unanswered = False
        while True:
            if isinstance(error, (*RETRY_LATER, *_NO_REPLY)):
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
            elif not isinstance(error, NoScriptError):
                raise OperationalError(f"Redis refused the event: {error}") from error
            try:
                # The ordinary call, which loads the script where it is not known.
                connection = self._connection or self._open()
                Call(_PUBLISH, connection, self._keys, (PRODUCER_REMEMBERED_S, *args)).answer()
            except (redis.RedisError, OSError) as again:
                error = again
            else:
                return

    def _open(self) -> Any:
        """The connection, closed here where the server has closed it: it then opens again."""
        if self._connection is None:
            self._connection = take_connection(self._connections)
            return self._connection
        try:
            closed = self._connection.can_read(timeout=0)  # nothing was asked, so this is the end
        except (redis.RedisError, OSError):
            closed = True
        if closed:
            self._connection.disconnect()
        return self._connection


def _begin_command(*parts: str | int) -> bytes:
    """A command of these parts and three more, in Redis's protocol, as far as these go."""
    packed = [str(part).encode() for part in parts]
    return b"*%d\r\n" % (len(parts) + 3) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in packed)


def _cut(text: str) -> str:
    """The text, cut as Celery cuts what it shows."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
