"""What an application imports: `track_event` and `track_events`, Celery tasks of a private app.

Events are checked here, before anything is sent, and stamped, so that waiting in a queue never
moves one to another hour. `.delay()`, `.apply_async()`, `.s()`, eager mode and a direct call all
work; the last two count the event in this process. The broker is the one given to `configure`, else
`ANALYTICS_BROKER_URL` (RabbitMQ), else `ANALYTICS_REDIS_URL`, else the private server of
`ANALYTICS_DATA_DIR`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property, partial
from typing import Any
from uuid import UUID, uuid4

import msgspec
from celery import Signature, Task, current_app, group, signals
from celery.result import AsyncResult
from vine import promise

from pipeline.contract import (
    MAX_EVENTS_PER_MESSAGE,
    MAX_MESSAGE_BYTES,
    TRACK_EVENT,
    TRACK_EVENTS,
)
from pipeline.counting.batch import Delivery
from pipeline.days import UTC
from pipeline.errors import InvalidEvent
from pipeline.event.model import Event
from pipeline.producer import rabbitmq, withheld
from pipeline.producer.app import (
    app,
    counters,
    envelope,
    idle_publishers,
    new_publisher,
    no_results,
    use_redis_as_broker,
)
from pipeline.producer.canvas.followers import FOLLOWING, take_followers
from pipeline.producer.canvas.forwarding import forward_in_workers
from pipeline.producer.canvas.options import choose_options
from pipeline.producer.canvas.signatures import address, pack
from pipeline.producer.eager_mode import is_eager
from pipeline.producer.settings import current_settings

# Options that change nothing about the message; with any other the event goes Celery's own way.
_FAST_OPTIONS = frozenset({"task_id", "retry"})

_SHOWN_EVENTS = 30
"""Each has at least 50 characters, of which tools show 1,024."""

CheckedArguments = tuple[tuple[Any, ...], dict[str, Any], int]
"""Args and kwargs of a message, and how many events they hold."""


class _Accepted(AsyncResult):
    """The result of a task whose events are accepted. What waits for it is made when it is asked
    for, which takes Celery longer than all else of a result."""

    _cache = parent = None

    def __init__(self, task_id: str) -> None:
        self.id, self.app, self.backend = task_id, app, no_results()

    @cached_property
    def on_ready(self) -> Any:
        """Celery's promise, which callbacks are added to."""
        return promise()

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"

    def __copy__(self) -> AsyncResult:
        return AsyncResult(self.id, backend=self.backend, app=self.app)

    def __reduce__(self) -> tuple[Any, ...]:
        return AsyncResult, self.__reduce_args__()


def may_publish_by_script() -> bool:
    """Whether our script may publish: to Redis, and with no listener who may change the message."""
    settings = current_settings()
    listened_to = signals.before_task_publish.receivers or signals.after_task_publish.receivers
    return settings.broker_url is None and settings.enabled and not listened_to


class _CheckedTask(Task):
    """A task whose arguments are checked, and made complete, before they are sent."""

    abstract = True

    def check_arguments(self, *args: Any, **kwargs: Any) -> CheckedArguments:
        """Returns what to send. Raises `InvalidEvent`, or TypeError as a call with wrong arguments
        does."""
        raise NotImplementedError

    def read_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Event]:
        """The events that checked arguments hold."""
        raise NotImplementedError

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult:
        """Check and send the events; when this returns, they are accepted.

        Takes Celery's options. `retry=False` tries once; else the broker is tried for
        `publish_timeout_s`. Raises `InvalidEvent` and `OptionRefused` with nothing sent, kombu's
        OperationalError when the broker refused, and of these `PublishUnconfirmed` when it may have
        taken the message: its `retry()` tries again without counting twice. `NotFollowed` is raised
        of an event that is accepted.
        """
        checked = self.check_arguments(*(args or ()), **(kwargs or {}))
        if options:
            options = choose_options(options)
        is_usual = options.keys() <= _FAST_OPTIONS and may_publish_by_script()
        if is_usual and not is_eager():
            return self._publish_by_script(checked, **options)
        return self._do_the_unusual(*checked[:2], options)

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """`delay`, when the transaction of Django that is open now is committed."""
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """`apply_async`, when the transaction of Django that is open now is committed; not at all
        when it is rolled back, at once where none is open. The events are checked and stamped now.
        """
        from django.db import transaction

        checked = self.check_arguments(*(args or ()), **(kwargs or {}))
        options = choose_options(options)
        transaction.on_commit(partial(self.apply_async, *checked[:2], **options))

    def signature(self, args: Any = None, *more: Any, **named: Any) -> Signature:
        """Celery's signature, which brings the events to our workers from any worker of the
        application: see docs/guides/sending/celery.md."""
        named.setdefault("app", None)  # the application's, when it is used
        return address(super().signature(args, *more, **named))

    subtask = signature

    def map(self, it: Iterable[Any]) -> Signature:
        """What sends the events of calls with these single arguments."""
        return self.starmap((one,) for one in it)

    def starmap(self, it: Iterable[Iterable[Any]]) -> Signature:
        """What sends the events of calls with these arguments: a signature, or a group."""
        return group([self.si(*call) for call in it])

    def chunks(self, it: Iterable[Iterable[Any]], n: int) -> Signature:
        """The same, with `n` calls in a message where each is of one event."""
        return self.starmap(it)

    def forward(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], task_id: str, headers: dict[str, Any]
    ) -> None:
        """Send the message of another client to our workers, as it came and under its id: however
        often it is sent, its events count once. What breaks a rule becomes a dead letter there.
        Raises what `apply_async` raises of the broker."""
        if not current_settings().enabled:
            return
        with suppress(InvalidEvent, TypeError):
            args, kwargs, _ = self.check_arguments(*args, **kwargs)
        publish = partial(app.send_task, self.name, args, kwargs, task_id=task_id, headers=headers)
        if current_settings().broker_url is None:
            use_redis_as_broker()
            publish()
        else:
            rabbitmq.publish_confirmed(app, publish, current_settings().publish_timeout_s)

    def _do_the_unusual(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> AsyncResult:
        """Count here, or send in another way than by script, then do what comes after the event as
        far as no worker of ours can."""
        enabled = current_settings().enabled
        if enabled and is_eager():
            return self._run_here(args, kwargs, options)
        if not enabled or not options.keys() & FOLLOWING:
            return self._send(args, kwargs, options)
        followers = take_followers(options, options.setdefault("task_id", str(uuid4())))
        result = self._send(args, kwargs, options)
        if followers is not None:
            followers.send()
        return result

    def _send(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> AsyncResult:
        """Not send at all, or publish in another way than by script."""
        settings = current_settings()
        if not settings.enabled:
            withheld.put(self.read_arguments(args, kwargs))
            return _Accepted(options.get("task_id") or str(uuid4()))
        if settings.broker_url is not None and "retry_policy" not in options:
            return self._publish_confirmed(args, kwargs, **options)
        return self._publish_by_celery(args, kwargs, options)

    def _run_here(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> AsyncResult:
        """Count the events in this process, as the application's Celery app asks for."""
        names = ("task_id", "link", "link_error")
        passed_on = {name: value for name, value in options.items() if name in names}
        throw = current_app.conf.task_eager_propagates
        return self.apply(args, kwargs, throw=throw, **passed_on)

    def _publish_by_script(
        self, checked: CheckedArguments, *, task_id: str | None = None, retry: bool = True
    ) -> AsyncResult:
        """Publish to Redis under the next number of a producer id that no other thread uses."""
        args, kwargs, events = checked
        pid = os.getpid()
        idle = idle_publishers(pid)
        try:
            publisher = idle.pop()
        except IndexError:
            publisher = new_publisher()
        number = publisher.last_number = publisher.last_number + 1
        task_id = str(task_id or f"{publisher.task_id_prefix}{number:012x}")
        tag = f"{publisher.tag_prefix}{number}"
        shown = repr(args) if events == 1 else _show(args)
        message = envelope(self.name, pid).message(task_id, tag, args, kwargs, shown)
        timeout_s = current_settings().publish_timeout_s if retry else 0.0
        publisher.send(message, events, timeout_s, number)
        # Not reached when the publish is unconfirmed: its number must stay the publisher's last.
        idle.append(publisher)
        return _Accepted(task_id)

    def _publish_confirmed(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, retry: bool = True, **options: Any
    ) -> AsyncResult:
        """Publish to RabbitMQ until it confirms."""
        # One id however often it is sent: what arrives twice is counted once.
        options = {"task_id": str(uuid4()), **options, "headers": _headers(options)}
        timeout_s = current_settings().publish_timeout_s if retry else 0.0
        send = partial(super().apply_async, args, kwargs, **options)
        return rabbitmq.publish_confirmed(app, send, timeout_s)

    def _publish_by_celery(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> AsyncResult:
        """Publish Celery's own way, which knows all its options and signals."""
        if current_settings().broker_url is None:
            use_redis_as_broker()
        return super().apply_async(args, kwargs, **options | {"headers": _headers(options)})


def _show(args: tuple[Any, ...]) -> str:
    """The beginning of the arguments of `track_events`, which is all that tools show."""
    return repr((args[0][:_SHOWN_EVENTS],))


def _headers(options: Mapping[str, Any]) -> dict[str, Any]:
    settings, carried = current_settings(), dict[str, Any]()
    if settings.traces:
        from pipeline.traces.carried import make_headers

        carried = make_headers()
    return {**(options.get("headers") or {}), **settings.headers(), **carried}


class _TrackEvent(_CheckedTask):
    abstract = True

    def check_arguments(
        self,
        event_type: str,
        user_id: str | int | UUID | None = None,
        properties: Mapping[str, Any] | None = None,
        timestamp: datetime | str | float | None = None,
        event_id: str | int | UUID | None = None,
    ) -> CheckedArguments:
        now = datetime.now(UTC)
        event = Event.create(event_type, user_id, properties, timestamp, event_id, now=now)
        fields = event.to_dict()
        return (fields.pop("event_type"),), fields, 1

    def read_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Event]:
        return [Event.create(*args, **kwargs, now=datetime.now(UTC))]

    def starmap(self, it: Iterable[Iterable[Any]]) -> Signature:
        return pack(track_events, it, MAX_EVENTS_PER_MESSAGE)

    def chunks(self, it: Iterable[Iterable[Any]], n: int) -> Signature:
        return pack(track_events, it, n)


class _TrackEvents(_CheckedTask):
    abstract = True

    def check_arguments(self, events: Sequence[Mapping[str, Any]]) -> CheckedArguments:
        checked = check_events(events)
        return ([event.to_wire() for event in checked],), {}, len(checked)

    def read_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Event]:
        return [Event.from_wire(fields, now=datetime.now(UTC)) for fields in args[0]]


def check_events(events: object) -> list[Event]:
    """The events of one message, each checked; an `Event` is one already. Raises `InvalidEvent`
    that says which one breaks which rule."""
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
            checked.append(
                fields if isinstance(fields, Event) else Event.from_dict(fields, now=now)
            )
        except InvalidEvent as error:
            raise error.in_list(position) from error
    size = len(msgspec.json.encode(checked))
    if size > MAX_MESSAGE_BYTES:
        raise InvalidEvent(
            "events",
            f"{size} bytes",
            f"at most {MAX_MESSAGE_BYTES} bytes fit one message; send several",
        )
    return checked


@app.task(name=TRACK_EVENT, base=_TrackEvent, bind=True, shared=False)
def track_event(
    self: Task,
    event_type: str,
    user_id: str | int | UUID | None = None,
    properties: Mapping[str, Any] | None = None,
    timestamp: datetime | str | float | None = None,
    event_id: str | int | UUID | None = None,
) -> None:
    """Count one event.

    `event_type`: text, 1 to 200 characters. `user_id`: text, up to 256 characters, or a whole
    number. `properties`: a JSON object, up to 32 KiB. `timestamp`: an aware datetime, ISO 8601 text
    or Unix time; now when absent. `event_id`: text, up to 100 characters, or a whole number; a
    second event of this type with the same id within the window (24 h) is not counted. Other forms
    that are taken: docs/reference/what-is-accepted.md. `.delay()` sends it to the workers; a direct
    call counts it in this process. Raises `InvalidEvent`.
    """
    event = Event.create(
        event_type, user_id, properties, timestamp, event_id, now=datetime.now(UTC)
    )
    _count_here([event], self.request.id)


@app.task(name=TRACK_EVENTS, base=_TrackEvents, bind=True, shared=False)
def track_events(self: Task, events: Sequence[Mapping[str, Any]]) -> None:
    """Count up to 1,000 events (1 MiB): objects with the fields that `track_event` takes.

    Raises `InvalidEvent` that names the event and the field; then none was sent.
    """
    _count_here(check_events(events), self.request.id)


def _count_here(events: Sequence[Event], task_id: str | None) -> None:
    settings = current_settings()
    if not settings.enabled:
        withheld.put(events)
        return
    delivery = Delivery(events, task_id=task_id, plain_user_ids=settings.plain_user_ids)
    counters().apply([delivery], datetime.now(UTC))


forward_in_workers(track_event, track_events)
