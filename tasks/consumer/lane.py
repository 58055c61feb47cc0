"""The event lane: a thread of an event worker that takes events from Redis without kombu.

Celery runs the worker (control commands, heartbeats, signals, other tasks); events go past it. A
fetch takes up to 500 messages from the queue, the batch consumer counts them, and while Redis works
on one batch the next fetch is on its way. When nothing was found, `BLMOVE q q RIGHT RIGHT` waits
for a message and takes none. So counting goes on while Celery makes its connection anew, and on a
full Redis, which refuses kombu. Where Redis is away the lane tries again, with what it held; what a
lost answer held it gives back.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import redis
from redis.exceptions import OutOfMemoryError

from pipeline.backoff import grow_pauses
from pipeline.intake.unacknowledged import Fetch, Fetched, Unacknowledged
from pipeline.redis.keys import Keys
from tasks.consumer.batch_consumer import BatchConsumer

ENDS_WITHIN_S = 8.0
"""What is under way then stays unacknowledged, and returns after the visibility timeout."""
_LOOK_S = 1.0
_LOOK_AT_ONE_OF_SEVERAL_S = 0.5
_LOOK_FOR_DUE_EVERY_S = 1.0
_RESTORE_EVERY_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_SERVER_ERRORS = (OSError, redis.RedisError)

logger = logging.getLogger(__name__)


@dataclass
class Chore:
    """Something that the lane does now and then, between two batches."""

    every_s: float
    run: Callable[[], object]
    next_s: float = 0.0


class EventLane:
    """Takes and counts the messages of these queues, from `start` until `stop`."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        queues: Sequence[str],
        batches: BatchConsumer,
        visibility_timeout_s: float,
    ) -> None:
        self._client, self._keys, self._batches = client, keys, batches
        self._all_queues = self.queues = list(queues)
        """Those that are consumed; a control command may change it."""
        self._messages = Unacknowledged(client, keys)
        self._mark = f"{secrets.token_hex(3)}-"
        self._was_cut = False
        self._next_due_s = float("inf")
        self._fetch: Fetch | None = None
        self._looks = 0
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event lane", daemon=True)
        restore_every_s = min(_RESTORE_EVERY_S, visibility_timeout_s)
        self.chores = [
            Chore(_LOOK_FOR_DUE_EVERY_S, self._queue_due),
            # What any worker fetched longer ago than this returns.
            Chore(restore_every_s, partial(self._messages.give_back_older, visibility_timeout_s)),
        ]

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def pause(self, queue: str) -> bool:
        """Consume no longer from a queue; returns whether it is one of the lane's."""
        self.queues = [name for name in self.queues if name != queue]
        return queue in self._all_queues

    def resume(self, queue: str) -> bool:
        """Consume from a queue again; returns whether it is one of the lane's."""
        self.queues = [name for name in self._all_queues if name in {*self.queues, queue}]
        return queue in self._all_queues

    def ask_to_stop(self) -> None:
        """Fetch no more; what is under way is finished."""
        self._is_stopping.set()

    def stop(self) -> None:
        """Fetch no more, and wait a while for the end of what is under way."""
        self.ask_to_stop()
        if self._thread.is_alive():
            self._thread.join(ENDS_WITHIN_S)

    def _run(self) -> None:
        pauses = grow_pauses(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while not self._is_stopping.is_set():
            try:
                self._batches.count_held()
                self._give_back_lost()
                pauses = grow_pauses(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
                self._take_until_stopped()
            except _SERVER_ERRORS as error:
                self._pause(next(pauses), f"Redis takes no messages or gives none: {error}")
            except Exception as error:
                logger.debug("the event lane was cut off", exc_info=True)
                self._pause(next(pauses), f"events were not counted: {error!r}")
        self._give_back()

    def _pause(self, pause_s: float, why: str) -> None:
        logger.warning("%s; next try in %.1f s", why, pause_s)
        self._was_cut = True
        if self._fetch is not None:
            self._fetch.drop()
            self._fetch = None
        self._is_stopping.wait(pause_s)

    def _take_until_stopped(self) -> None:
        fetched: list[Fetched] = []
        while not self._is_stopping.is_set():
            self._do_chores()  # what dead workers held comes before what has waited since
            if self.queues:  # on its way while the messages of the last one are worked on
                self._fetch = Fetch(self._client, self._keys, self.queues, mark=self._mark)
            self._batches.handle(fetched)
            fetch, self._fetch = self._fetch, None
            fetched = [] if fetch is None else fetch.answer()
            if not fetched:
                self._batches.finish()
                self._look()
        self._batches.handle(fetched)
        self._batches.finish()

    def _look(self) -> None:
        """Wait until a message is there, or one may be due. Takes nothing."""
        queues = self.queues
        if not queues:
            self._is_stopping.wait(_LOOK_AT_ONE_OF_SEVERAL_S)
            return
        patience_s = _LOOK_S if len(queues) == 1 else _LOOK_AT_ONE_OF_SEVERAL_S
        patience_s = max(0.01, min(patience_s, self._next_due_s - time.monotonic()))
        queue = queues[self._looks % len(queues)]
        self._looks += 1
        try:
            self._client.blmove(queue, queue, cast("int", patience_s), "RIGHT", "RIGHT")
        except OutOfMemoryError:  # it counts as a write, and Redis is full
            self._is_stopping.wait(_LOOK_AT_ONE_OF_SEVERAL_S)

    def _do_chores(self) -> None:
        now_s = time.monotonic()
        for chore in self.chores:
            if now_s >= chore.next_s:
                chore.next_s = now_s + chore.every_s
                try:
                    chore.run()
                except Exception as error:  # counting goes on, if it can
                    logger.warning("a chore of the event lane failed: %r", error)

    def _queue_due(self) -> None:
        next_s = self._messages.queue_due()
        self._next_due_s = time.monotonic() + (float("inf") if next_s is None else next_s)

    def _give_back_lost(self) -> None:
        """Have what a fetch took whose answer did not come counted before the visibility timeout:
        connections that are cut again and again would else hold up thousands of events."""
        if self._was_cut:
            self._messages.give_back_lost(self._mark, self._batches.list_held())
            self._was_cut = False

    def _give_back(self) -> None:
        held = self._batches.list_held()
        try:
            self._messages.give_back(held)
        except _SERVER_ERRORS as error:
            logger.warning("%d messages return after the visibility timeout: %s", len(held), error)
