"""What the arguments of `track_event` and `track_events` say: events, or a dead letter. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pipeline.contract import MAX_EVENTS_PER_MESSAGE
from pipeline.counting.batch import BadEvent, Delivery, read_delivery
from pipeline.event.model import FIELDS


def read_event(
    args: Sequence[Any], kwargs: dict[str, Any], task_id: str | None, now: datetime
) -> Delivery:
    """The event that the arguments of `track_event` describe, or a dead letter that holds them as
    they came."""
    named = dict(zip(FIELDS, args, strict=False))
    twice = [name for name in named if name in kwargs]
    if len(args) > len(FIELDS) or twice:
        what = f"{twice[0]} is given twice" if twice else f"there are more than {len(FIELDS)}"
        return _bad_message(args, kwargs, f"arguments: {what}", task_id)
    return read_delivery([named | kwargs], now, task_id=task_id)


def read_events(
    args: Sequence[Any], kwargs: dict[str, Any], task_id: str | None, now: datetime
) -> Delivery:
    """The events that the arguments of `track_events` describe; those that break a rule as dead
    letters."""
    events = args[0] if len(args) == 1 and not kwargs else kwargs.get("events")
    if len(args) + len(kwargs) != 1 or not isinstance(events, list):
        return _bad_message(args, kwargs, "events: must be one list of event objects", task_id)
    if len(events) > MAX_EVENTS_PER_MESSAGE:
        reason = f"events: {len(events)} in one message; at most {MAX_EVENTS_PER_MESSAGE} fit one"
        return _bad_message(args, kwargs, reason, task_id, events=len(events))
    return read_delivery(events, now, task_id=task_id)


def _bad_message(
    args: Sequence[Any], kwargs: dict[str, Any], reason: str, task_id: str | None, events: int = 1
) -> Delivery:
    body = json.dumps([args, kwargs]).encode()
    return Delivery([], [BadEvent(body, reason, events)], task_id=task_id)
