"""What an application imports: `track_event` and `track_events`, Celery tasks of a private app.

Events are checked here, before anything is sent, and stamped, so that waiting in a queue never
moves one to another hour. `.delay()`, `.apply_async()`, `.s()`, eager mode and a direct call all
work; the last two count the event in this process. The broker is the one given to `configure`, else
`ANALYTICS_BROKER_URL` (RabbitMQ), else `ANALYTICS_REDIS_URL`, else the private server of
`ANALYTICS_DATA_DIR`. The app is private: it neither shows up in the application's own Celery app
nor changes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from celery import Celery, Task, current_app, signals
from celery.result import AsyncResult

from pipeline import server_addresses
from pipeline.contract import (
    EVENTS_QUEUE,
    MAX_EVENTS_PER_MESSAGE,
    MAX_MESSAGE_BYTES,
    TAG_PREFIX,
    TRACK_EVENT,
    TRACK_EVENTS,
)
from pipeline.counting.apply import Counters
from pipeline.counting.batch import Delivery
from pipeline.errors import InvalidConfiguration, InvalidEvent
from pipeline.event.model import Event
from pipeline.options import CountBy, CounterOptions
from pipeline.producer import rabbitmq
from pipeline.producer.message import Envelope
from pipeline.producer.publisher import Publisher, PublisherPool
from pipeline.redis.client import redis_client
from pipeline.redis.keys import Keys


@dataclass(frozen=True)
class ProducerSettings:
    """Where events go. `count_by` and what follows matter to events counted in this process."""

    redis_url: str | None = field(default=None, repr=False)
    broker_url: str | None = field(default=None, repr=False)
    data_dir: Path = Path(".analytics")
    publish_timeout_s: float = 30
    prefix: str = "analytics:"
    count_by: CountBy = field(default_factory=dict)
    values_cap: int = 10_000
    dedup_window_s: int = 86_400
    counter_ttl_s: int = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ProducerSettings:
        """The settings of the same names, as far as they are set. Workers check them all; this only
        reads. Raises `InvalidConfiguration` where one cannot be read."""
        read: dict[str, Callable[[str], Any]] = {
            "redis_url": str,
            "broker_url": str,
            "data_dir": Path,
            "publish_timeout_s": float,
            "prefix": str,
            "count_by": json.loads,
            "values_cap": int,
            "dedup_window_s": int,
            "counter_ttl_s": int,
        }
        found: dict[str, Any] = {}
        for name, convert in read.items():
            variable = f"ANALYTICS_{name.upper()}"
            text = environment.get(variable)
            if text:
                try:
                    found[name] = convert(text)
                except ValueError as error:
                    raise InvalidConfiguration(f"{variable}={text}: {error}; correct it") from error
        return cls(**found)

    def redis_address(self) -> str:
        """The URL of Redis. Raises `InvalidConfiguration` when there is none."""
        return server_addresses.find_redis_url(self.redis_url, self.data_dir)


def configure(settings: ProducerSettings | None = None, /, **changes: Any) -> None:
    """Use these settings, or those in use with `changes`, from the next event on; nothing is
    connected yet."""
    global _settings  # noqa: PLW0603 - one producer a process, as Celery has one app
    _settings = replace(settings or _current_settings(), **changes)
    _counters.cache_clear()
    _publishers.cache_clear()
    if _app.configured:
        _app.conf.update(_celery_options())
        _app._pool = None
        vars(_app).pop("amqp", None)  # what Celery made of the options before: queues, producers


_settings: ProducerSettings | None = None


def _current_settings() -> ProducerSettings:
    global _settings  # noqa: PLW0603
    if _settings is None:
        _settings = ProducerSettings.from_environment()
    return _settings


def _celery_options() -> dict[str, Any]:
    settings = _current_settings()
    return {
        **_broker_options(settings),
        "broker_connection_timeout": 5,
        # Nothing would send heartbeats while the application has no events to send.
        "broker_heartbeat": 0,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_default_exchange": "",
        "task_default_queue": EVENTS_QUEUE,
        "task_default_routing_key": EVENTS_QUEUE,
        # Pauses of a second at most, so the number of tries bounds the time.
        "task_publish_retry_policy": {
            "max_retries": int(settings.publish_timeout_s) + 3,
            "interval_start": 0.1,
            "interval_step": 0.3,
            "interval_max": 1.0,
        },
    }


def _broker_options(settings: ProducerSettings) -> dict[str, Any]:
    if settings.broker_url is not None:
        options = rabbitmq.celery_options(settings.broker_url, [EVENTS_QUEUE])
        # `publish_confirmed` tries again, and knows for how long.
        options["broker_transport_options"]["max_retries"] = 0
        return options
    try:
        redis_url: str | None = settings.redis_address()
    except InvalidConfiguration:
        # Said when an event is sent. Here it would leave the tasks half made, and here comes
        # whoever only looks at them, such as a test runner that collects what a module holds.
        redis_url = None
    return {
        "broker_url": redis_url,
        "broker_use_ssl": None,
        "broker_transport_options": {
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
        },
        "task_queues": None,
    }


_app = Celery("analytics-producer", set_as_current=False)
_app.add_defaults(_celery_options)


@cache
def _counters() -> Counters:
    """The counters of this process, for events that it counts itself."""
    settings = _current_settings()
    options = CounterOptions(
        count_by=settings.count_by,
        values_cap=settings.values_cap,
        dedup_window_s=settings.dedup_window_s,
        counter_ttl_s=settings.counter_ttl_s,
    )
    return Counters(redis_client(settings.redis_address()), Keys(settings.prefix), options)


@cache
def _no_results() -> Any:
    """The tasks' result backend, which keeps none; Celery looks for it anew at every call."""
    return _app.backend


# Options that change nothing about the message; with any other the event goes Celery's own way.
_FAST_OPTIONS = frozenset({"task_id", "retry"})


def publishes_itself() -> bool:
    """Whether our script can publish: to Redis, and with nobody who may change the message."""
    listened_to = signals.before_task_publish.receivers or signals.after_task_publish.receivers
    return _current_settings().broker_url is None and not listened_to


@cache
def envelope(task: str, pid: int) -> Envelope:
    """The envelope of a task's messages; the pid is part of it, as their origin."""
    return Envelope(_app, task, EVENTS_QUEUE)


@cache
def _publishers() -> PublisherPool:
    return PublisherPool(new_publisher)


def check_address() -> None:
    """Raises `InvalidConfiguration` when nothing says where events go."""
    if _current_settings().broker_url is None:
        _current_settings().redis_address()


def new_publisher(producer_id: str | None = None, reply_within_s: float = 30) -> Publisher:
    """A publisher with a connection of its own, under a new id or that of a process that died.

    A connection without a reply for so long counts as lost. Raises `InvalidConfiguration` when
    there is no address of Redis.
    """
    settings = _current_settings()
    client = redis_client(settings.redis_address(), reply_within_s)
    return Publisher(client, Keys(settings.prefix), EVENTS_QUEUE, producer_id)


class _CheckedTask(Task):
    """A task whose arguments are checked, and made complete, before they are sent."""

    abstract = True

    def checked(self, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments to send. Raises `InvalidEvent`, or TypeError as a call with wrong arguments
        does."""
        raise NotImplementedError

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult:
        """Check and send the events; when this returns, they are accepted.

        Takes Celery's options. `retry=False` tries once; else the broker is tried for
        `publish_timeout_s`. Raises `InvalidEvent` with nothing sent, kombu's OperationalError when
        the broker refused, and of these `PublishUnconfirmed` when it may have taken the message:
        its `retry()` tries again without counting twice.
        """
        args, kwargs = self.checked(*(args or ()), **(kwargs or {}))
        options = {name: value for name, value in options.items() if value is not None}
        if current_app.conf.task_always_eager:
            names = ("task_id", "link", "link_error")
            passed_on = {name: value for name, value in options.items() if name in names}
            throw = current_app.conf.task_eager_propagates
            return self.apply(args, kwargs, throw=throw, **passed_on)
        timeout_s = _current_settings().publish_timeout_s if options.get("retry", True) else 0.0
        if _current_settings().broker_url is not None and "retry_policy" not in options:
            # One id however often it is sent: what arrives twice is counted once.
            options = {"task_id": str(uuid4()), **options}
            options.pop("retry", None)
            send = partial(super().apply_async, args, kwargs, **options)
            return rabbitmq.publish_confirmed(_app, send, timeout_s)
        if not options.keys() <= _FAST_OPTIONS or not publishes_itself():
            if _current_settings().broker_url is None:
                _app.conf.broker_url = _current_settings().redis_address()
            return super().apply_async(args, kwargs, **options)
        task_id = str(options.get("task_id") or uuid4())
        self.publish(task_id, args, kwargs, timeout_s)
        return AsyncResult(task_id, backend=_no_results(), app=_app)

    def publish(
        self, task_id: str, args: tuple[Any, ...], kwargs: dict[str, Any], timeout_s: float
    ) -> None:
        """Publish under a producer's number, and tell those who listen to Celery's signals."""
        rendered = envelope(self.name, os.getpid())
        _publishers().publish(
            TAG_PREFIX,
            lambda tag: rendered.message(task_id, tag, args, kwargs),
            self.events_in(args),
            timeout_s,
        )

    def events_in(self, args: tuple[Any, ...]) -> int:
        """How many events these arguments hold."""
        return 1


class _TrackEvent(_CheckedTask):
    abstract = True

    def checked(
        self,
        event_type: str,
        user_id: str | None = None,
        properties: Mapping[str, Any] | None = None,
        timestamp: datetime | str | float | None = None,
        event_id: str | None = None,
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        event = Event.create(
            event_type, user_id, properties, timestamp, event_id, now=datetime.now(UTC)
        )
        fields = event.to_dict()
        return (fields.pop("event_type"),), fields


class _TrackEvents(_CheckedTask):
    abstract = True

    def checked(
        self, events: Sequence[Mapping[str, Any]]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return ([event.to_dict() for event in check_events(events)],), {}

    def events_in(self, args: tuple[Any, ...]) -> int:
        return len(args[0])


def check_events(events: object) -> list[Event]:
    """The events of one message, each checked. Raises `InvalidEvent` that says which one breaks
    which rule."""
    if not isinstance(events, Sequence) or isinstance(events, str | bytes):
        raise InvalidEvent(
            "events", events, "must be a list of objects with the fields of an event"
        )
    if len(events) > MAX_EVENTS_PER_MESSAGE:
        raise InvalidEvent(
            "events",
            f"{len(events)} events",
            f"at most {MAX_EVENTS_PER_MESSAGE} fit one message; send several",
        )
    now = datetime.now(UTC)
    checked: list[Event] = []
    for position, fields in enumerate(events):
        try:
            checked.append(Event.from_dict(fields, now=now))
        except InvalidEvent as error:
            raise InvalidEvent(
                f"events[{position}].{error.field}", error.value, error.reason
            ) from error
    size = len(msgspec.json.encode(checked))
    if size > MAX_MESSAGE_BYTES:
        raise InvalidEvent(
            "events",
            f"{size} bytes",
            f"at most {MAX_MESSAGE_BYTES} bytes fit one message; send several",
        )
    return checked


@_app.task(name=TRACK_EVENT, base=_TrackEvent, bind=True, shared=False)
def track_event(
    self: Task,
    event_type: str,
    user_id: str | None = None,
    properties: Mapping[str, Any] | None = None,
    timestamp: datetime | str | float | None = None,
    event_id: str | None = None,
) -> None:
    """Count one event.

    `event_type`: text, 1 to 200 characters. `user_id`: text, up to 256 characters. `properties`: a
    JSON object, up to 32 KiB. `timestamp`: an aware datetime, ISO 8601 text or Unix seconds; now
    when absent. `event_id`: text, up to 100 characters; a second event with the same id within the
    window (24 h) is not counted. `.delay()` sends it to the workers; a direct call counts it in
    this process. Raises `InvalidEvent`.
    """
    event = Event.create(
        event_type, user_id, properties, timestamp, event_id, now=datetime.now(UTC)
    )
    _count_here([event], self.request.id)


@_app.task(name=TRACK_EVENTS, base=_TrackEvents, bind=True, shared=False)
def track_events(self: Task, events: Sequence[Mapping[str, Any]]) -> None:
    """Count up to 1,000 events (1 MiB): objects with the fields that `track_event` takes.

    Raises `InvalidEvent` that names the event and the field; then none was sent.
    """
    _count_here(check_events(events), self.request.id)


def _count_here(events: Sequence[Event], task_id: str | None) -> None:
    _counters().apply([Delivery(events, task_id=task_id)], datetime.now(UTC))
