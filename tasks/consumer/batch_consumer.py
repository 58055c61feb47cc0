"""The batch consumer: events are counted by the hundred, without Celery building a task of each.

The lane hands over what one fetch took from the events queue. The events are applied together, by a
script that takes their messages out of the unacknowledged messages and counts them in one step.
What is not due is postponed, what has callbacks is counted by itself, and what cannot be read
becomes a dead letter. Nothing is held back to wait for more, but while Redis counts one batch the
next is fetched, read and added up. A batch whose answer did not come is applied again: what of it
was counted is gone by then.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import redis
from celery.worker.state import revoked

from pipeline.counting.apply import Applying
from pipeline.counting.batch import Applied
from pipeline.intake.unacknowledged import Fetched, Unacknowledged
from tasks.app import counters
from tasks.consumer.applying import note_applied, warn_of_gap
from tasks.consumer.callbacks import count_and_call
from tasks.consumer.messages import Read, expire, read_message, unreadable
from tasks.flush_request import request_flush

MAX_EVENTS_AT_ONCE = 2_000
_MOST_REMEMBERED = 10_000

logger = logging.getLogger(__name__)


class BatchConsumer:
    """Reads and counts what a worker fetched from the events queue.

    `report` is told the name and id of the task of each message counted. Every method raises
    redis.ConnectionError when Redis is away: what was taken is kept for `count_held`, and Redis
    holds it too, for another worker if this one dies.
    """

    def __init__(self, report: Callable[[Sequence[tuple[str, str]]], None]) -> None:
        self._report = report
        self._held: list[Read] = []
        self._aside: list[Read] = []
        """With an eta or callbacks, not dealt with yet."""
        self._under_way: deque[tuple[list[Read], Applying | None, float]] = deque()
        """With the time (monotonic) at which each was sent."""
        self._uncounted: deque[str] = deque(maxlen=_MOST_REMEMBERED)

    def handle(self, fetched: Sequence[Fetched]) -> None:
        """Count the messages, the last batch of them by `finish` or the next call."""
        taken: list[Read] = []
        now = datetime.now(UTC)
        for tag, raw in fetched:
            try:
                read = read_message(tag, raw, now)
            except Exception as error:  # such as a nesting too deep for Python; it must not end us
                logger.exception("a message cannot be read and becomes a dead letter")
                read = unreadable(tag, raw, repr(error))
            is_plain = read.due_s is None and read.callbacks is None
            (taken if is_plain else self._aside).append(read)
        self._held += taken
        self._count(taken)
        if self._aside:
            self._settle_aside()

    def count_held(self) -> None:
        """Count what was read and not counted yet, after a connection was lost."""
        while self._under_way:
            _, under_way, _ = self._under_way.popleft()
            if under_way is not None:
                under_way.drop()
        self._count(list(self._held))
        self._settle_aside()
        self.finish()

    def list_held(self) -> list[str]:
        """Delivery tags of what was taken and not counted, now or of late, the first first."""
        held = [str(read.delivery.tag) for read in (*self._held, *self._aside)]
        return [*self._uncounted, *held]

    def finish(self, leaving: int = 0) -> None:
        """Wait until no more than `leaving` batches are under way."""
        while len(self._under_way) > leaving:
            batch, under_way, sent_s = self._under_way.popleft()
            deliveries = [read.delivery for read in batch]
            applied = Applied()
            try:
                applied = counters().apply_or_bury(deliveries, datetime.now(UTC), under_way)
            except redis.ResponseError as error:
                # A structure of ours has been overwritten. The messages stay unacknowledged, and so
                # come back after the visibility timeout, until it is mended.
                logger.critical("Redis cannot count, %d messages wait: %s", len(batch), error)
                self._uncounted.extend(str(one.tag) for one in deliveries)
            del self._held[: len(batch)]
            self._note([(read.task, read.task_id) for read in batch], applied, sent_s)

    def _note(self, tasks: Sequence[tuple[str, str]], applied: Applied, sent_s: float) -> None:
        self._report(tasks)
        note_applied(applied, time.monotonic() - sent_s)
        warn_of_gap(applied.unlogged)
        request_flush(applied.pending)

    def _count(self, reads: Sequence[Read]) -> None:
        """Send the messages to be counted. While Redis counts one batch, the next is made ready."""
        for batch in _batches(reads):
            try:
                deliveries = [read.delivery for read in batch]
                under_way = counters().applying(counters(), deliveries, datetime.now(UTC))
            except redis.RedisError:
                raise
            except Exception:  # logged, and mended, by `finish`
                under_way = None
            self._under_way.append((batch, under_way, time.monotonic()))
            self.finish(leaving=1)

    def _settle_aside(self) -> None:
        """Postpone what is not due; count what is, and send its callbacks."""
        now_s = time.time()
        later = {str(read.delivery.tag): read.due_s for read in self._aside}
        wait = [(tag, due_s) for tag, due_s in later.items() if due_s is not None and due_s > now_s]
        due = Unacknowledged(counters().client, counters().keys).postpone(wait) if wait else set()
        postponed = {tag for tag, _ in wait} - due
        left = [read for read in self._aside if read.delivery.tag not in postponed]
        left = [expire(read) if read.task_id in revoked else read for read in left]
        plain = [read for read in left if read.callbacks is None]
        self._aside = [read for read in left if read.callbacks is not None]
        self._held += plain
        self._count(plain)
        while self._aside:
            read, began_s = self._aside[0], time.monotonic()
            self._note([(read.task, read.task_id)], count_and_call(read), began_s)
            del self._aside[0]


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
