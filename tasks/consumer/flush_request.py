"""Asking for a flush when many counters are pending, ahead of beat."""

from __future__ import annotations

import logging

import redis
from kombu.exceptions import OperationalError

from pipeline.contract import FLUSH_COUNTERS
from tasks.app import app, counters, settings

_ASKED_FOR_S = 10

logger = logging.getLogger(__name__)


def request_flush(pending: int) -> None:
    """Send a flush task where more counters are pending than the settings allow, unless one was
    sent a moment ago."""
    if pending <= settings().flush_threshold:
        return
    try:
        requested = counters().keys.flush_requested
        if counters().client.set(requested, 1, nx=True, ex=_ASKED_FOR_S):
            # One try, and not for long: while RabbitMQ is short of memory it confirms nothing, and
            # a worker that waits for it frees none.
            app.tasks[FLUSH_COUNTERS].apply_async(retry=False, confirm_timeout=_ASKED_FOR_S)
    except (redis.RedisError, OperationalError) as error:
        logger.warning("could not ask for a flush, beat will: %s", error)
