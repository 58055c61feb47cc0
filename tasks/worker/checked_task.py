"""Tasks whose messages are checked for what Celery believes without a look."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from celery import Celery, Task
from celery.exceptions import InvalidTaskError

_PAIR = 2


class CheckedTask(Task):
    """A task that a message with senseless time limits does not reach: it becomes a dead letter.

    Celery hands time limits to a timer as they are. One that is no number ends the worker, the
    message returns to its queue, and so ends the next one.
    """

    abstract = True

    def start_strategy(self, app: Celery, consumer: Any, **options: Any) -> Callable[..., Any]:
        """What the worker does with a message of this task."""
        handle = super().start_strategy(app, consumer, **options)

        def check_and_handle(message: Any, body: Any, *args: Any, **kwargs: Any) -> Any:
            for fields in (message.headers, body):  # of the second protocol, and of the first
                if isinstance(fields, dict):
                    check_time_limits(fields.get("timelimit"))
            return handle(message, body, *args, **kwargs)

        return check_and_handle


def check_time_limits(limits: object) -> None:
    """Raise `InvalidTaskError` unless these are a hard and a soft time limit in seconds, either of
    which may be left out."""
    if limits is None:
        return
    if not isinstance(limits, list | tuple) or len(limits) != _PAIR:
        raise InvalidTaskError(f"timelimit {limits!r} is not a pair of time limits")
    for limit in limits:
        if limit is not None and (
            isinstance(limit, bool)
            or not isinstance(limit, int | float)
            or not math.isfinite(limit)
            or limit <= 0
        ):
            raise InvalidTaskError(f"timelimit {limits!r}: {limit!r} is not a number of seconds")
