"""The batch consumer: events are counted by the hundred, before Celery builds a task of each.

The transport hands over what one fetch took from the events queue. Plain `track_event` and
`track_events` messages are applied together, by a script that takes them out of the unacknowledged
messages and counts them in one step. What is unusual (an eta, an expiry, callbacks) goes Celery's
own way to the tasks of `tasks/track.py`. What cannot be read becomes a dead letter. Nothing is held
back to wait for more: while one batch is counted the next ones gather in Redis.
"""

from __future__ import annotations

import json
import logging
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import redis
from celery import Celery, bootsteps
from celery.worker import state

from config.celery import EVENTS_QUEUE, FLUSH_QUEUE
from pipeline.deliveries import TAG_PREFIX, Applied, BadEvent, Delivery
from pipeline.producer import TRACK_EVENT, TRACK_EVENTS
from pipeline.scripts import script
from tasks.app import counters, settings
from tasks.applying import apply_or_bury
from tasks.flush import flush_counters
from tasks.track import ask_for_flush, several_events, single_event

MAX_EVENTS_AT_ONCE = 2_000
TASK_EVENTS_PER_S = 10
CELERYS_DEFAULT_QUEUE = "celery"
_ADOPTED_AT_ONCE = 500
_ADOPT_EVERY_S = 1.0

Fetched = tuple[str, bytes]
"""A message as the transport took it: its delivery tag and its text."""

logger = logging.getLogger(__name__)


class _Headers(msgspec.Struct):
    task: str = ""
    id: str = ""
    eta: Any = None
    expires: Any = None
    compression: Any = None
    timelimit: tuple[Any, Any] | None = None


class _Properties(msgspec.Struct):
    body_encoding: str | None = None


class _Message(msgspec.Struct, rename={"content_type": "content-type"}):
    body: str
    headers: _Headers
    properties: _Properties
    content_type: str = ""


class _Embedded(msgspec.Struct):
    callbacks: Any = None
    errbacks: Any = None
    chain: Any = None
    chord: Any = None


class _FirstProtocol(msgspec.Struct):
    """The body of a message in Celery's first protocol, which clients in other languages speak."""

    task: str
    id: str
    args: list[Any]
    kwargs: dict[str, Any]
    eta: Any = None
    expires: Any = None
    callbacks: Any = None
    errbacks: Any = None
    chord: Any = None


_read_message = msgspec.json.Decoder(_Message).decode
_read_first_protocol = msgspec.json.Decoder(_FirstProtocol).decode
_read_body = msgspec.json.Decoder(tuple[list[Any], dict[str, Any], _Embedded]).decode
_PLAIN = _Embedded()


@dataclass(frozen=True, slots=True)
class _Taken:
    """A message read: its events, and what is needed to report or bury it."""

    delivery: Delivery
    task: str = ""
    task_id: str = ""


class BatchConsumer:
    """Reads and counts what a worker fetched from the events queue.

    `report` is told the name and id of the task of each message counted.
    """

    def __init__(self, app: Celery, report: Callable[[Sequence[tuple[str, str]]], None]) -> None:
        self._app = app
        self._report = report
        self._held: list[_Taken] = []

    def handle(self, fetched: Sequence[Fetched]) -> list[Fetched]:
        """Count the messages; returns those that are to go Celery's own way.

        Raises redis.ConnectionError when Redis is away: what was taken is then kept for
        `count_held`, and Redis holds it too, for another worker if this one dies.
        """
        refused: list[Fetched] = []
        now = datetime.now(UTC)
        for tag, raw in fetched:
            taken = self._read(tag, raw, now)
            if taken is None:
                refused.append((tag, raw))
            else:
                self._held.append(taken)
        self.count_held()
        return refused

    def count_held(self) -> Applied:
        """Count what was read and not counted yet."""
        counted = Applied()
        while self._held:
            batch = self._next_batch()
            try:
                counted = apply_or_bury([taken.delivery for taken in batch])
            except redis.ResponseError as error:
                # A structure of ours has been overwritten. The messages stay unacknowledged, and so
                # come back after the visibility timeout, until somebody has mended it.
                logger.critical("Redis cannot count, %d messages wait: %s", len(batch), error)
            del self._held[: len(batch)]
            self._report([(taken.task, taken.task_id) for taken in batch])
        if counted.pending > settings().flush_threshold:
            ask_for_flush()
        return counted

    def _next_batch(self) -> list[_Taken]:
        events = 0
        for position, taken in enumerate(self._held):
            events += len(taken.delivery.events)
            if events > MAX_EVENTS_AT_ONCE and position:
                return self._held[:position]
        return list(self._held)

    def _read(self, tag: str, raw: bytes, now: datetime) -> _Taken | None:  # noqa: PLR0911
        """The events in a message, or None when it is not for this lane."""
        try:
            message = _read_message(raw)
        except (msgspec.DecodeError, UnicodeError) as error:
            return _unreadable(tag, raw, f"is not a Celery message: {error}")
        if not message.headers.task:
            message = _second_protocol(message)
        headers = message.headers
        if headers.task not in self._app.tasks:
            return _unreadable(tag, raw, f"there is no task {headers.task!r}")
        if message.content_type != "application/json":
            reason = f"content type {message.content_type!r} is not accepted; send JSON"
            return _unreadable(tag, raw, reason)
        if headers.compression or headers.task not in (TRACK_EVENT, TRACK_EVENTS):
            return None
        try:
            args, kwargs, embedded = _arguments(message)
        except (ValueError, TypeError, RecursionError) as error:
            return _unreadable(tag, raw, f"the arguments cannot be read: {error}")
        if embedded != _PLAIN or headers.eta is not None or headers.expires is not None:
            return None
        read = single_event if headers.task == TRACK_EVENT else several_events
        task_id = None if tag.startswith(TAG_PREFIX) else headers.id or tag
        delivery = replace(read(args, kwargs, task_id, now), tag=tag, raw=raw)
        return _Taken(delivery, headers.task, headers.id)


def _arguments(message: _Message) -> tuple[list[Any], dict[str, Any], _Embedded]:
    body = _body(message)
    try:
        return _read_body(body)
    except (msgspec.DecodeError, UnicodeError):
        # What the standard library's JSON takes besides (NaN, long numbers, lone surrogates) is
        # for the rules of an event to judge.
        args, kwargs, embedded = json.loads(body)
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise TypeError("they must be a list, an object and an object") from None
        return args, kwargs, _Embedded(**(embedded or {}))


def _body(message: _Message) -> bytes:
    encoded = message.properties.body_encoding == "base64"
    return b64decode(message.body, validate=True) if encoded else message.body.encode()


def _second_protocol(message: _Message) -> _Message:
    """A message of the first protocol in the form of the second; any other as it is."""
    try:
        old = _read_first_protocol(_body(message))
    except ValueError:
        return message
    embedded = _Embedded(old.callbacks, old.errbacks, chord=old.chord)
    return _Message(
        msgspec.json.encode([old.args, old.kwargs, embedded]).decode(),
        _Headers(old.task, old.id, old.eta, old.expires),
        _Properties(),
        message.content_type,
    )


def _unreadable(tag: str, raw: bytes, reason: str) -> _Taken:
    bad = BadEvent(raw, f"message: {reason}", kind="message")
    return _Taken(Delivery((), [bad], tag=tag))


def adopt() -> None:
    """Fetch our tasks from Celery's default queue, where a stock client sends what it has no route
    for."""
    routes = [
        (TRACK_EVENT, EVENTS_QUEUE),
        (TRACK_EVENTS, EVENTS_QUEUE),
        (flush_counters.name, FLUSH_QUEUE),
    ]
    try:
        script(counters().client, "adopt")(
            keys=[CELERYS_DEFAULT_QUEUE],
            args=[_ADOPTED_AT_ONCE, *[part for route in routes for part in route]],
        )
    except redis.RedisError as error:
        logger.debug("the default queue could not be looked at: %s", error)


class EventsStep(bootsteps.StartStopStep):
    """Puts the batch consumer between the transport and Celery's consumer, at every connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Celery calls this once for a worker."""
        super().__init__(consumer, **options)
        self._consumer = consumer
        self._batches = BatchConsumer(consumer.app, self._report)
        self._adoption: Any = None
        self._sampled_at_s = 0
        self._sampled = 0

    def start(self, consumer: Any) -> None:
        """Count what the last connection left, then take messages."""
        self._batches.count_held()
        channel = consumer.task_consumer.channel
        if hasattr(channel, "raw_handler"):
            channel.raw_handler = self._batches.handle
            self._adoption = consumer.timer.call_repeatedly(_ADOPT_EVERY_S, adopt)

    def stop(self, consumer: Any) -> None:
        """Take no more; what is held stays for the next connection, and in Redis."""
        if self._adoption is not None:
            self._adoption.cancel()
        channel = consumer.task_consumer and consumer.task_consumer.channel
        if channel is not None and hasattr(channel, "raw_handler"):
            channel.raw_handler = None

    def _report(self, counted: Sequence[tuple[str, str]]) -> None:
        """Keep the worker's own counts true, and show monitors a sample of the tasks."""
        state.all_total_count[0] += len(counted)
        state.total_count.update(task for task, _ in counted)
        now_s = int(time.monotonic())
        if now_s != self._sampled_at_s:
            self._sampled_at_s, self._sampled = now_s, 0
        events = self._consumer.event_dispatcher
        if events is None or not events.enabled:
            return
        for task, task_id in counted[: TASK_EVENTS_PER_S - self._sampled]:
            self._sampled += 1
            events.send("task-received", uuid=task_id, name=task, args="", kwargs="", retries=0)
            events.send("task-succeeded", uuid=task_id, result="None", runtime=0.0)
