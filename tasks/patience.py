"""Working on while Redis is away: what a worker holds is tried again until it answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import redis
from celery.exceptions import Reject
from celery.worker import state

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
Result = TypeVar("Result")


def until_redis_answers(action: Callable[[], Result]) -> Result:
    """The result of `action`, which must be repeatable, tried with growing pauses while Redis does
    not answer.

    A worker that is told to stop meanwhile gives its message back to the queue.
    """
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return action()
        except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.TryAgainError) as error:
            if state.should_stop is not None or state.should_terminate is not None:
                raise Reject(f"Redis is away: {error}", requeue=True) from error
            logger.warning("Redis does not answer, next try in %.1f s: %s", pause_s, error)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
