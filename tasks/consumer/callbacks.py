"""Callbacks of events (`link`, the rest of a chain): sent once the events are counted.

Each goes to the queue that its signature names, else to that of our own task, else to Celery's
default queue, where an application's workers look for what names none.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import cache

import msgspec
import redis
from celery import Celery, signature
from kombu.exceptions import OperationalError

from pipeline.celery_app import OwnCelery
from pipeline.contract import CELERYS_DEFAULT_QUEUE
from pipeline.counting.batch import Applied, Delivery
from tasks.app import celery_options, counters
from tasks.consumer.messages import Read

_LIKE_CELERYS = {
    "task_default_queue": CELERYS_DEFAULT_QUEUE,
    "task_default_exchange": CELERYS_DEFAULT_QUEUE,
    "task_default_routing_key": CELERYS_DEFAULT_QUEUE,
    "task_create_missing_queues": True,
}

logger = logging.getLogger(__name__)


@cache
def _sender() -> Celery:
    """A stock app on our broker, with our routes and Celery's default queue."""
    app = OwnCelery("analytics_callbacks")
    app.add_defaults(lambda: celery_options() | _LIKE_CELERYS)
    return app


def count_and_call(read: Read) -> Applied:
    """Count the events of a message, send its callbacks, then take it out of the unacknowledged.

    A worker killed in between leaves the message to be delivered again: its events are recognised
    by its task id and not counted again, and its callbacks are sent again, as Celery's own with
    late acknowledgement. So are they where the broker takes none now. Raises redis.RedisError; a
    repeat is harmless.
    """
    delivery, now = read.delivery, datetime.now(UTC)
    applied = counters().apply_or_bury([msgspec.structs.replace(delivery, tag=None)], now)
    try:
        if not applied.dead:
            _send(read)
    except (OperationalError, redis.RedisError, OSError) as error:
        logger.warning(
            "callbacks of %s are sent after the visibility timeout: %s", read.task_id, error
        )
        return applied
    except Exception as error:
        logger.error("a callback of %s cannot be sent and is dropped: %r", read.task_id, error)
    counters().apply([Delivery((), tag=delivery.tag)], now)
    return applied


def _send(read: Read) -> None:
    """Send the callbacks as Celery's worker does after a task, whose result is None."""
    assert read.callbacks is not None
    ids = {"parent_id": read.task_id, "root_id": read.callbacks.root_id}
    for one in read.callbacks.link:
        signature(one, app=_sender()).apply_async((None,), **ids)
    if read.callbacks.chain:
        *rest, first = read.callbacks.chain
        signature(first, app=_sender()).apply_async((None,), chain=rest, **ids)
