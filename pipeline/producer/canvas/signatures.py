"""Signatures of our tasks, which any worker can send: they carry what brings them to our workers.

An application's own worker sends the rest of a chain, callbacks and the body of a chord by name,
from what the signature says. One without a queue would go to the application's own, where no
worker counts events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from celery import Signature, group

from pipeline.contract import MAX_EVENTS_PER_MESSAGE
from pipeline.event.model import FIELDS
from pipeline.producer.canvas.options import EventsQueue
from pipeline.producer.settings import current_settings


def address(signature: Signature) -> Signature:
    """Give a signature of ours the events queue and the headers of our messages, where it has no
    others."""
    settings, options = current_settings(), signature.options
    options.setdefault("queue", EventsQueue(settings.events_queue))
    if headers := settings.headers():
        options["headers"] = {**headers, **(options.get("headers") or {})}
    return signature


def pack(track_events: Any, calls: Iterable[Iterable[Any]], size: int) -> Signature:
    """What sends the events of these calls of `track_event`, so many at most in one message: a
    signature, or a group where one message does not hold them."""
    size = max(1, min(size, MAX_EVENTS_PER_MESSAGE))
    rest = iter(calls)
    messages = [track_events.si(events) for events in _pages(rest, size)]
    return messages[0] if len(messages) == 1 else group(messages)


def _pages(calls: Iterator[Iterable[Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    while page := [_name_fields(tuple(call)) for call in islice(calls, size)]:
        yield page


def _name_fields(call: tuple[Any, ...]) -> dict[str, Any]:
    if len(call) > len(FIELDS):
        raise TypeError(f"track_event takes {len(FIELDS)} arguments, and {len(call)} were given")
    return dict(zip(FIELDS, call, strict=False))
