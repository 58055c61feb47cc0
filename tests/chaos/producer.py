"""A producer: publishes events at a steady rate, and writes down what it tries and what was accepted.

It does what applications do: `track_event.delay()`, batches, a stock Celery client, retries after an
error, and after a crash sends the events with ids again. One in a while is wrong and must become a
dead letter.
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
from typing import Any, Protocol
from uuid import uuid4

import msgspec
from kombu.exceptions import OperationalError

from tests.chaos.account import DEAD, PROPERTY, UNSTAMPED, Account, Log

TYPES = ("page_view", "sign:up", "köp {100%}")
_DAYS_BACK = (0, 0, 0, 0, 1, 40, 3_700, 20_000)
"""Today mostly; yesterday; partitions to be made; far before the first partition."""
_USERS = 5
_REPEATED = 0.1
_WITH_ID = 0.15
_GIVEN_UP = 0.1
_PAUSE_AFTER_ERROR_S = 0.05


class Work(msgspec.Struct):
    """What one producer process is to do."""

    name: str
    seed: str
    logs: str
    """The directory of the logs."""
    events_per_s: float
    threads: int = 1
    foreign: float = 0.0
    """Share of the publishes that go through a stock Celery client."""
    publish_timeout_s: float = 1.0
    predecessor: str | None = None
    control: bool = False


class Sender(Protocol):
    """The ways to publish. Each raises kombu's OperationalError when it was not confirmed."""

    def one(self, event: dict[str, Any], timeout_s: float) -> None:
        """Send one event."""

    def many(self, events: list[dict[str, Any]], timeout_s: float) -> None:
        """Send a batch."""

    def foreign(self, events: list[dict[str, Any]], task_id: str, random: Random) -> None:
        """Send through a stock Celery client, under the same task id when repeated."""


class Producer:
    """A producer process at work."""

    def __init__(self, work: Work, sender: Sender) -> None:
        self._work = work
        self._sender = sender
        self._log = Log(Path(work.logs) / f"{work.name}.log")
        self._numbers = itertools.count(1)
        self._stop = threading.Event()

    def run(self) -> None:
        """Publish until SIGTERM."""
        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
        threads = [
            threading.Thread(target=self._publish_on, args=(Random(f"{self._work.seed}/{n}"),))
            for n in range(self._work.threads)
        ]
        if self._work.predecessor is not None:
            self._repeat_what_is_unknown(Random(self._work.seed), self._work.predecessor)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _publish_on(self, random: Random) -> None:
        due_s = time.monotonic()
        recent: list[dict[str, Any]] = []
        while not self._stop.is_set():
            number = next(self._numbers)
            foreign = random.random() < self._work.foreign
            events = list(self._events(number, foreign, random))
            if recent and random.random() < _REPEATED:
                events.append(random.choice(recent))
            recent = [*recent, *(event for event in events if "event_id" in event)][-50:]
            self._publish(number, events, foreign, random)
            due_s += len(events) * self._work.threads / self._work.events_per_s
            late_s = time.monotonic() - due_s
            due_s += max(0.0, late_s - 1.0)  # what a fault has cost is caught up with, up to a second
            self._stop.wait(max(0.0, -late_s))

    def _events(self, number: int, foreign: bool, random: Random) -> Iterator[dict[str, Any]]:
        mark = f"{self._work.name}/{number}"
        if foreign and random.random() < 0.05:
            yield {DEAD: f"<{mark}>"}
            return
        count = 1 if random.random() < 0.6 else random.choice([2, 5, 10, 30, 30, 100])
        day = datetime.now(UTC) - timedelta(days=random.choice(_DAYS_BACK))
        unstamped = not foreign and random.random() < 0.1
        for position in range(count):
            event: dict[str, Any] = {
                "event_type": UNSTAMPED if unstamped else random.choice(TYPES[:2 + number % 2]),
                "user_id": f"{self._work.name}:{random.randrange(_USERS)}",
                "properties": {PROPERTY: mark},
            }
            if not unstamped:
                event["timestamp"] = f"{day:%Y-%m-%d}T{random.randrange(3):02}:30:00+00:00"
                if random.random() < _WITH_ID:
                    event["event_id"] = f"{mark}/{position}"
            yield event

    def _repeat_what_is_unknown(self, random: Random, predecessor: str) -> None:
        account = Account(Path(self._work.logs))
        account.read()
        events = list(account.unknown_with_ids(predecessor))
        if events:
            self._publish(next(self._numbers), events, False, random)

    def _publish(
        self, number: int, events: list[dict[str, Any]], foreign: bool, random: Random
    ) -> None:
        self._log.attempt(number, events, ours=not foreign)
        timeout_s = random.choice([0.0, self._work.publish_timeout_s])
        send: Callable[[], None]
        if foreign:
            task_id = str(uuid4())
            send = lambda: self._sender.foreign(events, task_id, random)  # noqa: E731
        elif len(events) == 1:
            send = lambda: self._sender.one(events[0], timeout_s)  # noqa: E731
        else:
            send = lambda: self._sender.many(events, timeout_s)  # noqa: E731
        while True:
            try:
                send()
            except OperationalError as error:
                retry = getattr(error, "retry", None)
                if retry is not None:  # it may have been taken: the same publish again
                    if random.random() < _GIVEN_UP:
                        return
                    send = lambda: retry(1.0)  # noqa: B023, E731
                time.sleep(_PAUSE_AFTER_ERROR_S)
            else:
                self._log.accepted(number)
                return


class OurSender:
    """Publishes with `pipeline`, and as a stock Celery client does."""

    def __init__(self, redis_url: str) -> None:
        from celery import Celery

        self._stock = Celery("stock", broker=redis_url, set_as_current=False)
        self._stock.conf.task_default_exchange = ""
        self._stock.conf.task_publish_retry_policy = {"max_retries": 3, "interval_start": 0.05}

    def one(self, event: dict[str, Any], timeout_s: float) -> None:
        from pipeline import producer

        producer.configure(publish_timeout_s=timeout_s) if False else None
        producer.track_event.delay(**event)

    def many(self, events: list[dict[str, Any]], timeout_s: float) -> None:
        from pipeline import producer

        producer.track_events.delay(events)
