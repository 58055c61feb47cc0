"""The options that an event is sent with: those that say nothing about it are left out, and those
that would lose it, or have no meaning for it, are refused before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from kombu import compression

from pipeline.contract import MAX_DELAY
from pipeline.days import UTC
from pipeline.errors import OptionRefused
from pipeline.producer.settings import current_settings

MAX_TASK_ID_CHARACTERS = 255
_ELSEWHERE = ("queue", "exchange", "routing_key", "exchange_type")
_LEFT_OUT = (
    *_ELSEWHERE,
    # A group sends all its tasks over one connection: that of the application, whose broker may be
    # another than ours.
    *("producer", "publisher", "connection", "router", "route_name"),
    # Events are counted by the hundred, so no task of theirs runs for long.
    *("time_limit", "soft_time_limit"),
    "serializer",
)
_OF_CANVASES = frozenset({"group_id", "root_id", "parent_id", "reply_to"})
"""Options that Celery gives the tasks of a canvas, at least one of them to each."""
_MEANT_FOR_ALL = frozenset({"queue", "exchange", "routing_key", "serializer", "compression"})
"""Options that may be given to a whole canvas, for the tasks around an event."""
_UNPACKED = ("application/x-gzip", "application/x-bz2", "application/x-lzma")
_HIGHEST_PRIORITY = 9


class EventsQueue(str):
    """The events queue in a signature made in this process, whatever settings are chosen later."""

    __slots__ = ()


def choose_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options to send an event with, of those given to a task. Raises `OptionRefused`."""
    options = {name: value for name, value in given.items() if value is not None}
    if isinstance(options.get("queue"), EventsQueue):  # a signature's own
        del options["queue"]
    if options.get("headers") == current_settings().headers():
        del options["headers"]
    if not options:
        return options
    is_of_canvas = bool(options.keys() & _OF_CANVASES)
    for name in [name for name in options if name in _CHECKS]:
        try:
            _CHECKS[name](name, options[name])
        except OptionRefused:
            if not is_of_canvas or name not in _MEANT_FOR_ALL:
                raise
            del options[name]
    for name in _LEFT_OUT:
        options.pop(name, None)
    if "task_id" in options:
        options["task_id"] = str(options["task_id"])
    if "priority" in options:  # as kombu does: a task of a chain inherits that of the one before
        options["priority"] = max(0, min(int(options["priority"]), _HIGHEST_PRIORITY))
    if not options.get("chain", True):
        del options["chain"]
    return options


def _check_place(name: str, value: Any) -> None:
    queue = current_settings().events_queue
    place = getattr(value, "name", value)  # of kombu's Queue and Exchange
    ours = {"queue": (queue,), "exchange": ("", queue), "routing_key": (queue,)}
    if place not in ours[name]:
        raise OptionRefused(
            *(name, place),
            f"the workers that count events read the queue {queue} only: leave the option out; "
            "configure(prefix=…) chooses another installation",
        )


def _check_serializer(name: str, value: Any) -> None:
    if value not in ("json", "application/json"):
        raise OptionRefused(name, value, "workers accept JSON only: leave it out")


def _check_compression(name: str, value: Any) -> None:
    try:
        unpacked = compression.get_encoder(value)[1] in _UNPACKED
    except (KeyError, TypeError):
        unpacked = False
    if not unpacked:
        raise OptionRefused(name, value, "workers unpack gzip, bzip2 and lzma only: give one")


def _check_priority(name: str, value: Any) -> None:
    if not _is_finite(value):
        raise OptionRefused(name, value, f"must be a number from 0 to {_HIGHEST_PRIORITY}")


def _check_task_id(name: str, value: Any) -> None:
    if len(str(value)) > MAX_TASK_ID_CHARACTERS:
        reason = f"must have at most {MAX_TASK_ID_CHARACTERS} characters"
        raise OptionRefused(name, value, reason)


def _check_seconds(name: str, value: Any) -> None:
    try:
        if not _is_finite(value):
            raise OverflowError
        datetime.now(UTC) + timedelta(seconds=value)
    except OverflowError:
        reason = "must be a number of seconds that ends before the year 10000"
        raise OptionRefused(name, value, reason) from None


def _check_time(name: str, value: Any) -> datetime:
    try:
        if isinstance(value, datetime):
            return value
        return datetime.fromisoformat(value.replace("Z", "+00:00"))  # for Python 3.10
    except (AttributeError, TypeError, ValueError):
        raise OptionRefused(name, value, "must be a datetime, or text in ISO 8601") from None


def _check_expiry(name: str, value: Any) -> None:
    (_check_seconds if isinstance(value, int | float) else _check_time)(name, value)


def _check_countdown(name: str, value: Any) -> None:
    _check_seconds(name, value)
    _check_delay(name, value, timedelta(seconds=value))


def _check_eta(name: str, value: Any) -> None:
    due = _check_time(name, value)
    _check_delay(name, value, due.replace(tzinfo=due.tzinfo or UTC) - datetime.now(UTC))


def _check_delay(name: str, value: Any, delay: timedelta) -> None:
    if delay > MAX_DELAY:
        raise OptionRefused(
            *(name, value),
            f"is more than {MAX_DELAY.days} days ahead, and users may ask to be forgotten "
            "meanwhile: have the application wait, and send the event then",
        )


def _check_callbacks(name: str, value: Any) -> None:
    for given in value if isinstance(value, list | tuple | set) else [value]:
        if not isinstance(given, Mapping) or not isinstance(given.get("task"), str):
            raise OptionRefused(name, given, "must be signatures of tasks, such as notify.si()")


def _is_finite(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "queue": _check_place,
    "exchange": _check_place,
    "routing_key": _check_place,
    "serializer": _check_serializer,
    "compression": _check_compression,
    "priority": _check_priority,
    "task_id": _check_task_id,
    "countdown": _check_countdown,
    "eta": _check_eta,
    "expires": _check_expiry,
    "link": _check_callbacks,
    "link_error": _check_callbacks,
}
