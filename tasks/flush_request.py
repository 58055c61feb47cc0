"""Asking for a flush when many counters are pending, ahead of beat."""

from __future__ import annotations

import logging

import redis
from kombu.exceptions import OperationalError

from pipeline.contract import FLUSH_COUNTERS
from tasks.app import app, counters, settings
from tasks.lane_task import lanes

_ASKED_FOR_S = 10
_REST_FOR_RUNS = 2
_LONGEST_REST_S = 30.0
_TOO_MANY = 10
"""Times the threshold: past that no flush rests."""

logger = logging.getLogger(__name__)


def request_flush(pending: int) -> None:
    """Send a flush task where more counters are pending than the settings allow, unless one was
    sent a moment ago."""
    if pending <= settings().flush_threshold:
        return
    try:
        requested = counters().keys.flush_requested
        if counters().client.set(requested, 1, nx=True, ex=_ASKED_FOR_S) and _is_time(pending):
            # One try, and not for long: while RabbitMQ is short of memory it confirms nothing, and
            # a worker that waits for it frees none.
            app.tasks[FLUSH_COUNTERS].apply_async(retry=False, confirm_timeout=_ASKED_FOR_S)
    except (redis.RedisError, OperationalError) as error:
        logger.warning("could not ask for a flush, beat will: %s", error)


def _is_time(pending: int) -> bool:
    """Whether the last flush is long enough ago. The longer one waits, the more counts of a counter
    are stored at once; a flush all the time takes the cores from those that count."""
    ended_s, took_s = lanes().measure_rest_s(FLUSH_COUNTERS)
    rest_s = min(_REST_FOR_RUNS * took_s, _LONGEST_REST_S)
    return ended_s >= rest_s or pending > _TOO_MANY * settings().flush_threshold
