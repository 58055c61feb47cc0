"""Counting what a worker holds, come what may: Redis away, or a message that breaks the code."""

from __future__ import annotations

import json
import logging
import time
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime

import msgspec
import redis
from celery.app.task import Context
from celery.exceptions import Reject
from celery.worker import state

from pipeline.backoff import Rarely, grow_pauses
from pipeline.contract import PLAIN_USER_IDS
from pipeline.counting.batch import OUTCOMES, Applied, Delivery
from pipeline.measures import APPLY_EVENTS, APPLY_S, EVENTS, is_measured
from pipeline.traces.spans import find_tracer
from tasks.app import counters
from tasks.flush_request import request_flush

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_may_warn_of_gap = Rarely(60.0)

logger = logging.getLogger(__name__)


def _no_rejection(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], Reject))


# Celery reports a message given back with a traceback; below it is said in a line.
logging.getLogger("celery.app.trace").addFilter(_no_rejection)


def warn_of_gap(events: int) -> None:
    """Log events that were counted and not logged, now and then: while the event log is full, every
    batch has some."""
    if events and _may_warn_of_gap.is_time():
        logger.error(
            "the event log is full: %d events were counted and not logged, and so are more until "
            "there is room. See whether `analytics archive` works",
            events,
        )


def note_applied(applied: Applied, took_s: float) -> None:
    """Measure a batch that was counted, `took_s` after it was sent."""
    if is_measured():
        outcomes = {name: getattr(applied, name) for name in OUTCOMES}
        for outcome, events in outcomes.items():
            EVENTS.note(events, outcome)
        APPLY_S.note(took_s)
        APPLY_EVENTS.note(sum(outcomes.values()))


def apply_patiently(delivery: Delivery) -> Applied:
    """Count the events of one message, tried with growing pauses until Redis takes it.

    A worker that is told to stop meanwhile gives the message back to the queue.
    """
    pauses = grow_pauses(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
    while True:
        try:
            began_s = time.monotonic()
            applied = counters().apply_or_bury([delivery], datetime.now(UTC))
            note_applied(applied, time.monotonic() - began_s)
            return applied
        except redis.RedisError as error:
            if state.should_stop is not None or state.should_terminate is not None:
                logger.warning("a message not counted yet goes back to its queue: %s", error)
                raise Reject("not counted yet", requeue=True) from error
            pause_s = next(pauses)
            logger.warning("Redis does not count, next try in %.1f s: %s", pause_s, error)
            time.sleep(pause_s)


def continue_trace(request: Context) -> AbstractContextManager[None]:
    """Be part of the trace that a message carries, where spans are recorded."""
    if find_tracer() is None:
        return nullcontext()
    from pipeline.traces.carried import continued

    return continued(request)


def count_task(delivery: Delivery, request: Context) -> None:
    """Count the events of a task once, however often it is delivered: its id is remembered.

    The batch consumer takes the message out in the same step, which needs no memory. Here that
    would lose it: Celery acknowledges a message after its task, and by then one that was given back
    after the visibility timeout may be another worker's, who would find it gone.
    """
    raw = json.dumps([request.args, request.kwargs], default=repr).encode()
    plain = bool(request.get(PLAIN_USER_IDS))
    delivery = msgspec.structs.replace(delivery, raw=raw, plain_user_ids=plain)
    with continue_trace(request):
        applied = apply_patiently(delivery)
    warn_of_gap(applied.unlogged)
    request_flush(applied.pending)
