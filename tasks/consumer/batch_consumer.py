"""The batch consumer: events are counted by the hundred, before Celery builds a task of each.

The transport hands over what one fetch took from the events queue. Plain `track_event` and
`track_events` messages are applied together, by a script that takes them out of the unacknowledged
messages and counts them in one step. What is unusual (an eta, an expiry, callbacks) goes Celery's
own way to the tasks of `tasks/jobs.py`. What cannot be read becomes a dead letter. Nothing is held
back to wait for more, but while Redis counts one batch the next is fetched, read and added up. A
batch whose answer did not come is applied again: what of it was counted is gone by then.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import redis
from celery import Celery, bootsteps
from celery.worker import state

from pipeline.contract import EVENTS_QUEUE, FLUSH_COUNTERS, FLUSH_QUEUE, TRACK_EVENT, TRACK_EVENTS
from pipeline.counting.apply import Applying
from pipeline.counting.batch import Applied
from pipeline.redis.scripts import Script
from tasks.app import counters
from tasks.consumer.applying import warn_of_gap
from tasks.consumer.flush_request import request_flush
from tasks.consumer.messages import Read, read_message, unreadable

_ADOPT = Script("tasks.consumer.adopt")

MAX_EVENTS_AT_ONCE = 2_000
TASK_EVENTS_PER_S = 10
CELERYS_DEFAULT_QUEUE = "celery"
_ADOPTED_AT_ONCE = 500
_ADOPT_EVERY_S = 1.0

Fetched = tuple[str, bytes]
"""A message as the transport took it: its delivery tag and its text."""

logger = logging.getLogger(__name__)


class BatchConsumer:
    """Reads and counts what a worker fetched from the events queue.

    `report` is told the name and id of the task of each message counted.
    """

    def __init__(self, app: Celery, report: Callable[[Sequence[tuple[str, str]]], None]) -> None:
        self._tasks = app.tasks
        self._report = report
        self._held: list[Read] = []
        self._under_way: deque[tuple[list[Read], Applying | None]] = deque()

    def handle(self, fetched: Sequence[Fetched]) -> list[Fetched]:
        """Count the messages, the last batch of them by `finish` or the next call; returns those
        that are to go Celery's own way.

        Raises redis.ConnectionError when Redis is away: what was taken is then kept for
        `count_held`, and Redis holds it too, for another worker if this one dies.
        """
        refused: list[Fetched] = []
        taken: list[Read] = []
        now = datetime.now(UTC)
        for tag, raw in fetched:
            try:
                read = read_message(tag, raw, now, self._tasks)
            except Exception as error:  # such as a nesting too deep for Python; it must not end us
                logger.exception("a message cannot be read and becomes a dead letter")
                read = unreadable(tag, raw, repr(error))
            if read is None:
                refused.append((tag, raw))
            else:
                taken.append(read)
        self._held += taken
        self._count(taken)
        return refused

    def count_held(self) -> None:
        """Count what was read and not counted yet, after a connection was lost."""
        while self._under_way:
            _, under_way = self._under_way.popleft()
            if under_way is not None:
                under_way.drop()
        self._count(list(self._held))
        self.finish()

    def finish(self, leaving: int = 0) -> None:
        """Wait until no more than `leaving` batches are under way."""
        while len(self._under_way) > leaving:
            batch, under_way = self._under_way.popleft()
            deliveries = [read.delivery for read in batch]
            applied = Applied()
            try:
                applied = counters().apply_or_bury(deliveries, datetime.now(UTC), under_way)
            except redis.ResponseError as error:
                # A structure of ours has been overwritten. The messages stay unacknowledged, and so
                # come back after the visibility timeout, until somebody has mended it.
                logger.critical("Redis cannot count, %d messages wait: %s", len(batch), error)
            del self._held[: len(batch)]
            self._report([(read.task, read.task_id) for read in batch])
            warn_of_gap(applied.unlogged)
            request_flush(applied.pending)

    def _count(self, reads: Sequence[Read]) -> None:
        """Send the messages to be counted. While Redis counts one batch, the next is made ready."""
        for batch in _batches(reads):
            try:
                deliveries = [read.delivery for read in batch]
                under_way = Applying(counters(), deliveries, datetime.now(UTC))
            except redis.RedisError:
                raise
            except Exception:  # logged, and mended, by `finish`
                under_way = None
            self._under_way.append((batch, under_way))
            self.finish(leaving=1)


def _batches(reads: Sequence[Read]) -> Iterator[list[Read]]:
    """The messages, as many at a time as one apply takes."""
    batch: list[Read] = []
    events = 0
    for read in reads:
        events += len(read.delivery.events)
        if events > MAX_EVENTS_AT_ONCE and batch:
            yield batch
            batch, events = [], len(read.delivery.events)
        batch.append(read)
    if batch:
        yield batch


def adopt() -> None:
    """Fetch our tasks from Celery's default queue, where a stock client sends what it has no route
    for."""
    routes = [
        (TRACK_EVENT, EVENTS_QUEUE),
        (TRACK_EVENTS, EVENTS_QUEUE),
        (FLUSH_COUNTERS, FLUSH_QUEUE),
    ]
    try:
        _ADOPT.run(
            counters().client,
            keys=[CELERYS_DEFAULT_QUEUE],
            args=[_ADOPTED_AT_ONCE, *[part for route in routes for part in route]],
        )
    except redis.RedisError as error:
        logger.debug("the default queue could not be looked at: %s", error)


class EventsStep(bootsteps.StartStopStep):
    """Puts the batch consumer between the transport and Celery's consumer, at every connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Celery calls this once for a worker."""
        super().__init__(consumer, **options)
        self._consumer = consumer
        self._batches = BatchConsumer(consumer.app, self._report)
        self._adoption: Any = None
        self._sampled_at_s = 0
        self._sampled = 0

    def start(self, consumer: Any) -> None:
        """Count what the last connection left, then take messages."""
        self._batches.count_held()
        channel = consumer.task_consumer.channel
        if hasattr(channel, "raw_handler"):
            channel.raw_handler = self._batches.handle
            channel.raw_idle = self._batches.finish
            self._adoption = consumer.timer.call_repeatedly(_ADOPT_EVERY_S, adopt)

    def stop(self, consumer: Any) -> None:
        """Take no more; what is held stays for the next connection, and in Redis."""
        if self._adoption is not None:
            self._adoption.cancel()
        channel = consumer.task_consumer and consumer.task_consumer.channel
        if channel is not None and hasattr(channel, "raw_handler"):
            channel.raw_handler = channel.raw_idle = None
        try:
            self._batches.finish()
        except redis.RedisError as error:
            logger.debug("the last batch is counted after the reconnect, or by another: %s", error)

    def _report(self, counted: Sequence[tuple[str, str]]) -> None:
        """Keep the worker's own counts true, and show monitors a sample of the tasks."""
        state.all_total_count[0] += len(counted)
        state.total_count.update(task for task, _ in counted)
        now_s = int(time.monotonic())
        if now_s != self._sampled_at_s:
            self._sampled_at_s, self._sampled = now_s, 0
        events = self._consumer.event_dispatcher
        if events is None or not events.enabled:
            return
        for task, task_id in counted[: TASK_EVENTS_PER_S - self._sampled]:
            self._sampled += 1
            events.send("task-received", uuid=task_id, name=task, args="", kwargs="", retries=0)
            events.send("task-succeeded", uuid=task_id, result="None", runtime=0.0)
