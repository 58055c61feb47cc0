"""Events: `track_event` and `track_events` as workers run them. Producers use those of
`pipeline.producer.celery_tasks`."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import redis
from celery import Task
from celery.app.task import Context
from kombu.exceptions import OperationalError

from pipeline.contract import MAX_EVENTS_PER_MESSAGE, TRACK_EVENT, TRACK_EVENTS
from pipeline.counting.batch import BadEvent, Delivery, read_delivery
from pipeline.event.model import FIELDS
from tasks.app import app, counters, settings
from tasks.consumer.applying import apply_patiently
from tasks.flush import flush_counters

_FLUSH_ASKED_FOR_S = 10

logger = logging.getLogger(__name__)


@app.task(name=TRACK_EVENT, bind=True, typing=False, shared=False)
def track_event(self: Task, *args: Any, **kwargs: Any) -> None:
    """Count one event; see `pipeline.track_event` for the arguments."""
    count(single_event(args, kwargs, self.request.id, datetime.now(UTC)), self.request)


@app.task(name=TRACK_EVENTS, bind=True, typing=False, shared=False)
def track_events(self: Task, *args: Any, **kwargs: Any) -> None:
    """Count a list of events; see `pipeline.track_events`."""
    count(several_events(args, kwargs, self.request.id, datetime.now(UTC)), self.request)


def single_event(
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


def several_events(
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


def count(delivery: Delivery, request: Context) -> None:
    """Count the events of a message once, however often it is delivered: its task id is remembered.

    The batch consumer takes the message out in the same step, which needs no memory. Here that
    would lose it: Celery acknowledges a message after its task, and by then one that was given back
    after the visibility timeout may be another worker's, who would find it gone. Asks for a flush
    when many counters are pending.
    """
    raw = json.dumps([request.args, request.kwargs], default=repr).encode()
    delivery = msgspec.structs.replace(delivery, raw=raw)
    applied = apply_patiently(delivery)
    if applied.pending > settings().flush_threshold:
        ask_for_flush()


def ask_for_flush() -> None:
    """Send a flush task, unless one was asked for a moment ago."""
    try:
        asked = counters().keys.flush_requested
        if counters().client.set(asked, 1, nx=True, ex=_FLUSH_ASKED_FOR_S):
            # One try, and not for long: while RabbitMQ is short of memory it confirms nothing, and
            # a worker that waits for it frees none.
            flush_counters.apply_async(retry=False, confirm_timeout=_FLUSH_ASKED_FOR_S)
    except (redis.RedisError, OperationalError) as error:
        logger.warning("could not ask for a flush, beat will: %s", error)


def _bad_message(
    args: Sequence[Any], kwargs: dict[str, Any], reason: str, task_id: str | None, events: int = 1
) -> Delivery:
    body = json.dumps([args, kwargs]).encode()
    return Delivery([], [BadEvent(body, reason, events)], task_id=task_id)
