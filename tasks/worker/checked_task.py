"""Tasks whose messages are checked for what Celery believes without a look."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery, Task
from celery.exceptions import InvalidTaskError

from pipeline.contract import TRACK_EVENT, TRACK_EVENTS

MAX_ETA = timedelta(minutes=1)
"""How far ahead a job may be due: a worker holds it in memory until then. (Events may wait: they
have come, and must count.)"""

_MAX_ID_CHARACTERS = 255
_PAIR = 2
_CALLBACKS = ("callbacks", "errbacks", "chain", "chord")


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
                    check_time_limits(fields.get("timelimit"))
                    check_stamps(fields)
                    check_id(fields.get("id", ""))
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


def check_callbacks(embedded: object) -> None:
    """Raise `InvalidTaskError` unless these are the tasks that Celery is to send when one is done:
    what `link`, `link_error` and a chain or chord of Celery's clients write."""
    if not embedded:
        return
    if not isinstance(embedded, dict):
        raise InvalidTaskError("callbacks: must be an object")
    chord = embedded.get("chord")
    for name, given in {**embedded, "chord": None if chord is None else [chord]}.items():
        if name not in _CALLBACKS or given is None:
            continue
        if not isinstance(given, list) or not all(map(_is_signature, given)):
            raise InvalidTaskError(f"{name}: must be signatures of tasks")


def _is_signature(given: object) -> bool:
    return (
        isinstance(given, dict)
        and isinstance(given.get("task"), str)
        and isinstance(given.get("args") or [], list)
        and isinstance(given.get("kwargs") or {}, dict)
        and isinstance(given.get("options") or {}, dict)
        and isinstance(given.get("subtask_type") or "", str)
    )


def check_time_limits(limits: object) -> None:
    """Raise `InvalidTaskError` unless these are a hard and a soft time limit in seconds, either of
    which may be left out."""
    if limits is None:
        return
    if not isinstance(limits, list | tuple) or len(limits) != _PAIR:
        raise InvalidTaskError(f"timelimit {_cut(limits)} is not a pair of time limits")
    for limit in limits:
        if limit is not None and (
            isinstance(limit, bool)
            or not isinstance(limit, int | float)
            or not math.isfinite(limit)
            or limit <= 0
        ):
            raise InvalidTaskError(
                f"timelimit {_cut(limits)}: {_cut(limit)} is not a number of seconds"
            )


def check_stamps(fields: Mapping[str, Any]) -> None:
    """Raise `InvalidTaskError` unless the stamps are an object, and their names a list of texts."""
    names, stamps = fields.get("stamped_headers"), fields.get("stamps")
    if names is not None and not (
        isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    ):
        raise InvalidTaskError(f"stamped_headers {_cut(names)} is not a list of names")
    if stamps is not None and not isinstance(stamps, dict):
        raise InvalidTaskError(f"stamps {_cut(stamps)} is not an object of names and values")


def check_id(task_id: object) -> None:
    """Raise `InvalidTaskError` unless this is a text of a bounded length."""
    if not isinstance(task_id, str) or len(task_id) > _MAX_ID_CHARACTERS:
        raise InvalidTaskError(
            f"id {_cut(task_id)} is not a text of at most {_MAX_ID_CHARACTERS} characters"
        )


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


def _cut(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_ID_CHARACTERS else f"{text[:_MAX_ID_CHARACTERS]}…"
