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

from pipeline.contract import ARCHIVE_EVENTS, FLUSH_COUNTERS, MOVE_DEAD_LETTERS
from pipeline.installation import queues_of
from pipeline.lanes.lanes import LANES
from pipeline.upkeep import heartbeats
from pipeline.upkeep.condition.discarding import note_discarding, was_looked_for
from pipeline.upkeep.condition.room import FULL, find_refusal
from tasks.app import app, counters, settings
from tasks.lane_task import lanes
from tasks.worker.default_queue import find_discarding_workers, read_broker_options

_EVERY_S = 5.0
_ASKED_FOR_S = 10.0
"""After so long a message is taken for lost."""
_WORKERS_ANSWER_WITHIN_S = 2.0
_MAKE_ROOM = (FLUSH_COUNTERS, ARCHIVE_EVENTS, MOVE_DEAD_LETTERS)

logger = logging.getLogger(__name__)


class OverdueStep(bootsteps.StartStopStep):
    """Looks for what is overdue, in a worker that flushes."""

    requires = ("celery.worker.components:Pool",)

    def include_if(self, worker: Any) -> bool:
        """Whether the worker flushes."""
        return queues_of(settings().prefix).flush in worker.app.amqp.queues.consume_from

    def start(self, worker: Any) -> None:
        """Begin, in a thread of its own."""
        self._is_stopping, arguments = threading.Event(), (worker.hostname,)
        threading.Thread(target=self._run, args=arguments, name="overdue", daemon=True).start()

    def stop(self, worker: Any) -> None:
        """Begin no more runs. One that the end of the process cuts off is made up for later."""
        self._is_stopping.set()

    def _run(self, name: str) -> None:
        while not self._is_stopping.wait(_EVERY_S):
            try:
                client, keys = counters().client, counters().keys
                full = find_refusal(client) == FULL
                if full:  # Celery, whose consumer says so else, has no connection
                    heartbeats.beat(client, keys, "flush", name)
                else:
                    look_for_discarding()
                for task in find_overdue(full=full):
                    logger.info("%s is overdue, and runs without a message", task)
                    app.tasks[task].run_here()
                for task in LANES:
                    app.tasks[task].send_if_late()
            except (OSError, redis.RedisError, OperationalError) as error:
                logger.debug("what is overdue cannot be looked for: %s", error)
            except Exception:
                logger.exception("what is overdue has failed, and is tried again")


def look_for_discarding() -> None:
    """Once a minute have one flush worker look for workers that would discard events, for the
    verdict on the pipeline. Raises redis.RedisError."""
    client, keys = counters().client, counters().keys
    if was_looked_for(client, keys):
        return
    try:
        found = find_discarding_workers(read_broker_options(app), _WORKERS_ANSWER_WITHIN_S)
    except OperationalError as error:
        logger.debug("workers of other applications could not be searched for: %s", error)
    else:
        note_discarding(client, keys, found)


def find_overdue(*, full: bool) -> Iterator[str]:
    """The tasks that make room and were asked for a while ago and have not begun; all of them while
    Redis is full, if they have not run a moment ago. Raises redis.RedisError."""
    asked = lanes().find_overdue(_ASKED_FOR_S)
    for task in _MAKE_ROOM:
        if task in asked or (full and lanes().measure_rest_s(task)[0] > _EVERY_S):
            yield task
