"""Counting what a worker holds, come what may: Redis away, or a message that breaks the code."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import redis
from celery.exceptions import Reject
from celery.worker import state

from pipeline.counting.batch import Applied, BadEvent, Delivery
from pipeline.counting.counters import Applying
from pipeline.redis.client import RETRY_LATER
from tasks.app import counters

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_TELL_EVERY_S = 60.0
_told_at_s = -_TELL_EVERY_S

logger = logging.getLogger(__name__)


def _no_rejection(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], Reject))


# Celery reports a message given back with a traceback; below it is said in a line.
logging.getLogger("celery.app.trace").addFilter(_no_rejection)


def apply_or_bury(deliveries: Sequence[Delivery], under_way: Applying | None = None) -> Applied:
    """Count the events of these messages in one step, or wait for the apply of them that is under
    way. May be repeated.

    A message that breaks the code becomes a dead letter, and the others are counted. Raises
    redis.ConnectionError while Redis is away or takes no writes, and redis.ResponseError when a
    structure of ours is not what it should be; then nothing has changed.
    """
    try:
        if under_way is not None:
            applied = under_way.finish()
        else:
            applied = counters().apply(deliveries, datetime.now(UTC))
        if applied.unlogged:
            _tell_of_gap(applied.unlogged)
        return applied
    except RETRY_LATER as error:
        raise redis.ConnectionError(f"Redis takes no writes now: {error}") from error
    except redis.RedisError:
        raise
    except Exception as error:
        if len(deliveries) > 1:
            return [apply_or_bury([delivery]) for delivery in deliveries][-1]
        logger.exception("a message cannot be counted and becomes a dead letter")
        bad = BadEvent(deliveries[0].raw, f"message: {error!r}", kind="message")
        return counters().apply(
            [msgspec.structs.replace(deliveries[0], events=(), bad=[bad])], datetime.now(UTC)
        )


def _tell_of_gap(events: int) -> None:
    """A line now and then: while the log is full, every batch comes here."""
    global _told_at_s  # noqa: PLW0603 - of this process
    if time.monotonic() - _told_at_s >= _TELL_EVERY_S:
        _told_at_s = time.monotonic()
        logger.error(
            "the event log is full: %d events were counted and not logged, and so are more until "
            "there is room. See whether `analytics archive` works",
            events,
        )


def apply_patiently(delivery: Delivery) -> Applied:
    """The same for one message, tried with growing pauses until Redis takes it.

    A worker that is told to stop meanwhile gives the message back to the queue.
    """
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return apply_or_bury([delivery])
        except redis.RedisError as error:
            if state.should_stop is not None or state.should_terminate is not None:
                logger.warning("a message not counted yet goes back to its queue: %s", error)
                raise Reject("not counted yet", requeue=True) from error
            logger.warning("Redis does not count, next try in %.1f s: %s", pause_s, error)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
