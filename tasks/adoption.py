"""Taking in events that wait in a queue which is not this installation's alone.

Celery's default queue is where a stock client sends what it has no queue for. The queue of the
default installation is where every installation's events went before the names carried the prefix.
A message there that a producer of this installation published is known by its producer; others name
no installation. Those belong to the default one while it lives, else to the only installation of
this Redis. Where there are several they stay, and the log says so.
"""

from __future__ import annotations

import logging
import time
from threading import Thread

import redis

from pipeline.backoff import Rarely
from pipeline.contract import (
    CELERYS_DEFAULT_QUEUE,
    EVENTS_QUEUE,
    FLUSH_COUNTERS,
    PRIORITY_SUFFIXES,
    TRACK_EVENT,
    TRACK_EVENTS,
)
from pipeline.errors import ServerUnavailable
from pipeline.installation import DEFAULT_PREFIX, queues_of
from pipeline.producer import rabbitmq
from pipeline.redis.installations import find_others
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script

_ADOPT = Script("tasks.adoption")
_PAGE, _PAGES = 500, 20
_KNOWN_FOR_S = 60.0
_SAID_EVERY_S = 600.0

logger = logging.getLogger(__name__)


def warn_of_shared_queue(broker_url: str, prefix: str) -> None:
    """Log a warning where messages wait in RabbitMQ's queue of the default installation, which
    every installation used before: they name none."""
    if prefix == DEFAULT_PREFIX:
        return
    try:
        waiting = rabbitmq.queue_depth(broker_url, EVENTS_QUEUE)
    except ServerUnavailable as error:
        logger.debug("the queue %s could not be looked at: %s", EVENTS_QUEUE, error)
        return
    if waiting:
        logger.warning(
            "%d messages wait in the queue %s, where events of ANALYTICS_PREFIX=%s went before the "
            "queues had their own names: if they are this installation's, run `analytics worker "
            "events --shared-queue` until they are counted",
            *(waiting, EVENTS_QUEUE, prefix),
        )


class Adoption:
    """What one worker takes in; `run` is called every second."""

    def __init__(self, client: redis.Redis, prefix: str, *, takes_all: bool = False) -> None:
        """`takes_all` says that all that waits is this installation's, as the operator knows."""
        self._client, self._prefix = client, prefix
        self._is_default, self._takes_all = prefix == DEFAULT_PREFIX, takes_all
        queues = queues_of(prefix)
        self._routes = (
            *(TRACK_EVENT, queues.events),
            *(TRACK_EVENTS, queues.events),
            *(FLUSH_COUNTERS, queues.flush),
        )
        self._others: list[str] | None = None
        self._searched_at_s = float("-inf")
        self._may_say_moved, self._may_say_left = Rarely(_SAID_EVERY_S), Rarely(_SAID_EVERY_S)
        self._moved = 0

    def run(self) -> None:
        """Take in what is ours. Does nothing while Redis is away."""
        try:
            if self._is_default:
                self._move(CELERYS_DEFAULT_QUEUE, "", pages=1)
            else:
                self._run_beside_others()
        except redis.RedisError as error:
            logger.debug("shared queues could not be looked at: %s", error)

    def _run_beside_others(self) -> None:
        shared = [CELERYS_DEFAULT_QUEUE, *(EVENTS_QUEUE + suffix for suffix in PRIORITY_SUFFIXES)]
        producers = "" if self._takes_all else Keys(self._prefix).producer("")
        left = sum(self._move(queue, producers) for queue in shared)
        if not left or self._client.exists(Keys(DEFAULT_PREFIX).workers):
            return
        others = self._find_others()
        if others == []:
            for queue in shared:
                self._move(queue, "")
        elif others:
            self._warn(left, others)

    def _move(self, queue: str, producers: str, pages: int = _PAGES) -> int:
        """Move what is ours out of a queue; returns how many tasks of ours were left there."""
        total_left = total_moved = skipped = 0
        for _ in range(pages):
            args = [skipped, _PAGE, producers, *self._routes]
            moved, left, seen = _ADOPT.run(self._client, keys=[queue], args=args)
            total_left, skipped = total_left + left, skipped + seen - moved
            total_moved += moved
            if seen < _PAGE:
                break
        if queue == CELERYS_DEFAULT_QUEUE:
            self._note_moved(total_moved)
        return total_left

    def _note_moved(self, tasks: int) -> None:
        """Say now and then that tasks come by Celery's default queue: of some, who sends them does
        not learn that another worker has discarded them."""
        self._moved += tasks
        if self._moved and self._may_say_moved.is_time():
            logger.warning(
                "%d tasks came by Celery's default queue, %s: have their senders name the queue "
                "%s, since a worker of another application that listens there may discard them; "
                "`analytics status` finds such workers",
                *(self._moved, CELERYS_DEFAULT_QUEUE, queues_of(self._prefix).events),
            )
            self._moved = 0

    def _find_others(self) -> list[str] | None:
        """The prefixes of other installations; None while a thread searches for them."""
        now_s = time.monotonic()
        if now_s - self._searched_at_s > _KNOWN_FOR_S:
            self._others, self._searched_at_s = None, now_s
            Thread(target=self._search_others, daemon=True).start()
        return self._others

    def _search_others(self) -> None:
        try:
            self._others = find_others(self._client, self._prefix)
        except redis.RedisError as error:
            logger.debug("other installations could not be searched for: %s", error)

    def _warn(self, left: int, others: list[str]) -> None:
        if self._may_say_left.is_time():
            logger.warning(
                "%d or more tasks wait in the queues %s and %s and name no installation, and this "
                "Redis has others (ANALYTICS_PREFIX=%s): have their senders name the queue %s, "
                "and, where they are this installation's, run `analytics worker events "
                "--shared-queue` once",
                *(left, CELERYS_DEFAULT_QUEUE, EVENTS_QUEUE, ", ".join(others[:5])),
                queues_of(self._prefix).events,
            )
