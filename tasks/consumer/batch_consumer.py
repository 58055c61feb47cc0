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
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import redis
from celery import Celery

from pipeline.counting.apply import Applying
from pipeline.counting.batch import Applied
from tasks.app import counters
from tasks.consumer.applying import warn_of_gap
from tasks.consumer.flush_request import request_flush
from tasks.consumer.messages import Read, read_message, unreadable

MAX_EVENTS_AT_ONCE = 2_000

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
        for Celery itself. Raises redis.ConnectionError when Redis is away: what was taken is kept
        for `count_held`, and Redis holds it too, for another worker if this one dies."""
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
                # come back after the visibility timeout, until it is mended.
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
