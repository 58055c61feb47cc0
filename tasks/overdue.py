"""Flush workers see to what is overdue: nothing depends on beat, and nothing that makes room in
Redis depends on a message.

Beat asks for what is due. Where it has not, some time later, a thread of each flush worker does.

A full Redis refuses the commands by which Celery sends a message, takes one, and starts. A request
is noted all the same (`pipeline.lanes`). So that thread, which lives while Celery makes its
connection anew, runs what was asked for and has not begun; and while Redis is full it flushes,
archives and moves dead letters without being asked.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import redis
from celery import bootsteps
from kombu.exceptions import OperationalError
from redis.exceptions import OutOfMemoryError

from pipeline.contract import ARCHIVE_EVENTS, FLUSH_COUNTERS, MOVE_DEAD_LETTERS
from pipeline.installation import queues_of
from pipeline.lanes.lanes import LANES
from pipeline.redis.scripts import Script
from tasks.app import app, counters, settings
from tasks.lane_task import lanes

_EVERY_S = 5.0
_ASKED_FOR_S = 10.0
"""After so long a message is taken for lost."""
_MAKE_ROOM = (FLUSH_COUNTERS, ARCHIVE_EVENTS, MOVE_DEAD_LETTERS)
_TRY = Script("tasks.overdue")

logger = logging.getLogger(__name__)


class OverdueStep(bootsteps.StartStopStep):
    """Looks for what is overdue, in a worker that flushes."""

    requires = ("celery.worker.components:Pool",)

    def include_if(self, worker: Any) -> bool:
        """Whether the worker flushes."""
        return queues_of(settings().prefix).flush in worker.app.amqp.queues.consume_from

    def create(self, worker: Any) -> Overdue:
        """The thread, which Celery starts and stops with the worker."""
        return Overdue()


class Overdue:
    """Runs what is overdue, in a thread of its own. A run that is cut off by the end of the process
    is made up for by the next."""

    def __init__(self) -> None:
        self._is_stopping = threading.Event()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="overdue", daemon=True).start()

    def stop(self) -> None:
        """Begin no more runs."""
        self._is_stopping.set()

    def _run(self) -> None:
        while not self._is_stopping.wait(_EVERY_S):
            try:
                for task in find_overdue():
                    logger.info("%s is overdue, and runs without a message", task)
                    app.tasks[task].run_here()
                for task in LANES:
                    app.tasks[task].send_if_late()
            except (OSError, redis.RedisError, OperationalError) as error:
                logger.debug("what is overdue cannot be looked for: %s", error)
            except Exception:
                logger.exception("what is overdue has failed, and is tried again")


def find_overdue() -> Iterator[str]:
    """The tasks that make room and were asked for a while ago and have not begun; all of them while
    Redis is full, if they have not run a moment ago. Raises redis.RedisError."""
    asked = lanes().find_overdue(_ASKED_FOR_S)
    full = is_full(counters().client)
    for task in _MAKE_ROOM:
        if task in asked or (full and lanes().measure_rest_s(task)[0] > _EVERY_S):
            yield task


def is_full(client: redis.Redis) -> bool:
    """Whether Redis is past its `maxmemory`. Raises redis.RedisError."""
    try:
        _TRY.run(client, keys=[])
    except OutOfMemoryError:
        return True
    return False
