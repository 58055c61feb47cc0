"""Tasks whose messages are checked for what Celery believes without a look."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from celery import Celery, Task
from celery.exceptions import InvalidTaskError

from pipeline.contract import TRACK_EVENT, TRACK_EVENTS

MAX_ETA = timedelta(minutes=1)
"""How far ahead a job may be due: a worker holds it in memory until then. (Events may wait: they
have come, and must count.)"""

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
TimeLimits = tuple[_Seconds | None, _Seconds | None]
"""The hard and the soft one; either may be left out."""


class _Headers(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(max_length=255)] = ""
    timelimit: TimeLimits | None = None
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None


class _Signature(msgspec.Struct):
    task: str
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    subtask_type: str | None = None


class _Callbacks(msgspec.Struct):
    callbacks: list[_Signature] | None = None
    errbacks: list[_Signature] | None = None
    chain: list[_Signature] | None = None
    chord: _Signature | None = None


class CheckedTask(Task):
    """A task that a message with senseless time limits or arguments does not reach: it becomes a
    dead letter.

    Celery hands time limits to a timer as they are. One that is no number ends the worker, the
    message returns to its queue, and so ends the next one. Arguments that a task does not take and
    callbacks that are none would be a traceback in the log and a message lost. Stamps it reads
    after it has taken a place in the pool: one that cannot be read keeps the place, and a worker
    with one place stands still for ever.
    """

    abstract = True

    def start_strategy(self, app: Celery, consumer: Any, **options: Any) -> Callable[..., Any]:
        """What the worker does with a message of this task."""
        handle = super().start_strategy(app, consumer, **options)
        is_event = self.name in (TRACK_EVENT, TRACK_EVENTS)

        def check_and_handle(message: Any, body: Any, *args: Any, **kwargs: Any) -> Any:
            for fields in (message.headers, body):  # of the second protocol, and of the first
                if isinstance(fields, dict):
                    check_type("header", fields, _Headers)
                    if not is_event:
                        check_eta(fields.get("eta"), datetime.now(UTC))
            self._check_body(message, body)
            return handle(message, body, *args, **kwargs)

        return check_and_handle

    def _check_body(self, message: Any, body: Any) -> None:
        try:
            if isinstance(body, dict):  # of the first protocol
                args, kwargs, embedded = body.get("args") or (), body.get("kwargs") or {}, body
            else:
                args, kwargs, embedded = message.payload
            if self.typing:
                self.__header__(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise InvalidTaskError(f"arguments: {error}") from error
        check_callbacks(embedded)


def check_type(what: str, given: object, wanted: Any) -> None:
    """Raise `InvalidTaskError` that names `what` unless what is given is of this type."""
    try:
        msgspec.convert(given, wanted)
    except msgspec.ValidationError as error:
        raise InvalidTaskError(f"{what}: {error}") from error


def check_callbacks(embedded: object) -> None:
    """Raise `InvalidTaskError` unless these are the tasks that Celery is to send when one is done:
    what `link`, `link_error` and a chain or chord of Celery's clients write."""
    if embedded:
        check_type("callbacks", embedded, _Callbacks)


def check_eta(eta: object, now: datetime) -> None:
    """Raise `InvalidTaskError` for a time further ahead than `MAX_ETA`. What is no time Celery
    refuses by itself."""
    if not isinstance(eta, str):
        return
    try:
        due = datetime.fromisoformat(eta)
        ahead = due.replace(tzinfo=due.tzinfo or UTC) - now
    except (ValueError, OverflowError):
        return
    if ahead > MAX_ETA:
        raise InvalidTaskError(f"eta {eta!r} is more than {MAX_ETA.seconds} s ahead")
