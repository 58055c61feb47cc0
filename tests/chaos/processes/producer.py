"""A producer: publishes events at a steady rate, and writes down what it tries and what was
accepted.

It does what applications do: `track_event.delay()`, batches, a stock Celery client, retries after
an error, and after a crash sends the events with ids again. One in a while is wrong and must become
a dead letter.
"""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import msgspec
from kombu.exceptions import OperationalError

from tests.chaos.checks.account import DEAD, PROPERTY, UNSTAMPED, Account, Log
from tests.chaos.checks.amounts import AMOUNT, make_amount
from tests.chaos.processes.senders import GivenUp, Sender

TYPES = ("page_view", "sign:up", "köp {100%}")
_DAYS_BACK = (0, 0, 0, 0, 1, 40, 3_700, 20_000)
"""Today mostly; yesterday; partitions to be made; far before the first partition."""
_BATCHES = (2, 5, 10, 30, 30, 100)
_USERS = 5
_HOURS = 3
# Shares, of the publishes and of the events:
_SINGLE, _BAD, _WITHOUT_TIME, _REPEATED, _GIVEN_UP = 0.6, 0.05, 0.1, 0.1, 0.1
_WITH_ID = 0.15
_IDS_REMEMBERED = 50
_PAUSE_AFTER_ERROR_S = 0.05
_CAUGHT_UP_S = 1.0
"""What a fault has cost a producer is caught up with, up to this."""
_LARGEST_BATCH = 1_000


class Work(msgspec.Struct):
    """What one producer process is to do."""

    name: str
    seed: str
    logs: str
    """The directory of the logs."""
    events_per_s: float
    threads: int = 1
    foreign: float = 0.0
    """Share of the publishes that do not go through `pipeline` and its numbers."""
    delayed: float = 0.0
    """Share of the publishes with a countdown, which have no numbers either."""
    predecessor: str | None = None
    """The producer that died before this one, whose unknown events are sent again."""


class Producer:
    """A producer process at work."""

    def __init__(self, work: Work, sender: Sender) -> None:
        self._work = work
        self._sender = sender
        self._log = Log(Path(work.logs) / f"{work.name}.log")
        self._numbers = itertools.count(1)
        self._stop = threading.Event()

    def run(self) -> None:
        """Publish until SIGTERM, and then finish what was begun."""
        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
        threads = [
            threading.Thread(target=self._publish_on, args=(Random(f"{self._work.seed}/{n}"),))
            for n in range(self._work.threads)
        ]
        if self._work.predecessor is not None:
            self._send_again(self._work.predecessor, Random(self._work.seed))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def publish(self, events: list[dict[str, Any]], random: Random, number: int = 0) -> None:
        """Write the events down, publish them until they are accepted, and write that down."""
        number = number or next(self._numbers)
        self._log.attempt(number, events, ours=True)
        retry, left = random.random() < 0.5, list(events)
        self._until_accepted(lambda: self._sender.send(left, retry=retry), number, random)

    def _publish_unnumbered(
        self, events: list[dict[str, Any]], random: Random, number: int, *, delayed: bool
    ) -> None:
        self._log.attempt(number, events, ours=False)
        task_id = str(UUID(int=random.getrandbits(128)))
        send_once = self._sender.send_delayed if delayed else self._sender.send_foreign

        def send() -> None:
            try:
                send_once(events, task_id, random)
            except AttributeError as error:  # kombu forgets its connection while it reconnects
                raise OperationalError from error

        self._until_accepted(send, number, random)

    def _until_accepted(self, send: Callable[[], None], number: int, random: Random) -> None:
        while True:
            try:
                send()
            except GivenUp:
                return
            except OperationalError as error:
                again: Callable[[float], None] | None = getattr(error, "retry", None)
                if again is not None:  # it may have been taken: the same publish, or none
                    if random.random() < _GIVEN_UP:
                        return
                    send = _with_argument(again, random.choice([0.0, 1.0]))
                time.sleep(_PAUSE_AFTER_ERROR_S)
            else:
                self._log.accepted(number)
                return

    def _publish_on(self, random: Random) -> None:
        due_s = time.monotonic()
        recent: list[dict[str, Any]] = []
        while not self._stop.is_set():
            number = next(self._numbers)
            foreign = random.random() < self._work.foreign
            delayed = not foreign and random.random() < self._work.delayed
            events = list(self._events(number, foreign, random))
            if recent and random.random() < _REPEATED and DEAD not in events[0]:
                events.append(random.choice(recent))
            with_id = [event for event in events if "event_id" in event]
            recent = [*recent, *with_id][-_IDS_REMEMBERED:]
            if foreign or delayed:
                self._publish_unnumbered(events, random, number, delayed=delayed)
            else:
                self.publish(events, random, number)
            due_s += len(events) * self._work.threads / self._work.events_per_s
            early_s = due_s - time.monotonic()
            due_s += max(0.0, -early_s - _CAUGHT_UP_S)
            self._stop.wait(max(0.0, early_s))

    def _events(self, number: int, foreign: bool, random: Random) -> Iterator[dict[str, Any]]:
        mark = f"{self._work.name}/{number}"
        if foreign and random.random() < _BAD:
            yield {DEAD: f"<{mark}>"}
            return
        day = datetime.now(UTC) - timedelta(days=random.choice(_DAYS_BACK))
        # Only `pipeline` stamps an event when it is sent; of others the worker does so.
        without_time = not foreign and random.random() < _WITHOUT_TIME
        types = random.sample(TYPES, 2)
        for position in range(1 if random.random() < _SINGLE else random.choice(_BATCHES)):
            event: dict[str, Any] = {
                "event_type": UNSTAMPED if without_time else random.choice(types),
                "user_id": f"{self._work.name}:{random.randrange(_USERS)}",
                "properties": {PROPERTY: mark, AMOUNT: make_amount(random)},
            }
            if not without_time:
                at = f"{random.randrange(_HOURS):02}:{random.randrange(60):02}"
                event["timestamp"] = f"{day:%Y-%m-%d}T{at}:00+00:00"
                if random.random() < _WITH_ID:
                    event["event_id"] = f"{mark}/{position}"
            yield event

    def _send_again(self, predecessor: str, random: Random) -> None:
        account = Account(Path(self._work.logs))
        account.read(predecessor)
        events = list(account.unknown_with_ids(predecessor))
        if events:
            self.publish(events[:_LARGEST_BATCH], random)


def _with_argument(call: Callable[[float], None], value: float) -> Callable[[], None]:
    return lambda: call(value)
