"""Ours and the two task queues as workers see them: how an event is sent, how many are counted,
and when a worker has nothing left in hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from benchmarks.rivals.counters import DONE
from benchmarks.stage.processes import Worker
from benchmarks.stage.stage import EVENT_TYPE, PROPERTIES, Stage, wait_until
from pipeline import track_event
from pipeline.contract import EVENTS_QUEUE


@dataclass(frozen=True)
class Side:
    """One way to have events counted. `queue` are its keys in Redis, the list that workers wait for
    last; `in_hand` those of messages that a worker has taken and not acknowledged."""

    client: redis.Redis
    publish: Callable[[str, str, dict[str, Any]], object]
    counted: Callable[[], int]
    queue: Sequence[str]
    in_hand: Sequence[str]

    def send(self, user: str) -> None:
        """Publish an event of this user."""
        self.publish(EVENT_TYPE, user, PROPERTIES)

    def wait_until_counted(self, target: int) -> None:
        """Wait until so many are counted in all."""
        wait_until(lambda: self.counted() >= target, f"{target} events are counted")

    def wait_until_settled(self) -> None:
        """Wait until nothing is queued or in hand: a worker held still with a message in hand would
        begin its next round with that."""
        keys = (*self.queue, *self.in_hand)
        wait_until(lambda: not self.client.exists(*keys), "everything is acknowledged")

    def hold_when_ready(self, worker: Worker) -> None:
        """Wait until a worker that was just started has counted an event, and hold it still."""
        target = self.counted() + 1
        self.send("first")
        self.wait_until_counted(target)
        self.wait_until_settled()
        worker.hold()


def ours(stage: Stage) -> Side:
    """`track_event.delay()` and our worker, whose count is in its books."""
    client, keys = stage.services.redis, stage.services.keys
    return Side(
        client,
        track_event.delay,
        lambda: int(client.hget(keys.totals, "counted") or 0),
        queue=[EVENTS_QUEUE],
        in_hand=[keys.unacked],
    )


# The rivals' modules are imported on use: like an application's, they read the address of Redis
# when they are imported, which is not known before the servers run.


def celery(stage: Stage) -> Side:
    """An ordinary Celery task."""
    from benchmarks.rivals import celery_task

    queue, unacked = [celery_task.QUEUE], ["unacked"]
    return Side(stage.services.redis, celery_task.count.delay, done(stage), queue, unacked)


def dramatiq(stage: Stage) -> Side:
    """A dramatiq actor; its messages stay where they are until they are acknowledged."""
    from benchmarks.rivals import dramatiq_actor

    queue = dramatiq_actor.KEYS
    return Side(stage.services.redis, dramatiq_actor.count.send, done(stage), queue, [])


def done(stage: Stage) -> Callable[[], int]:
    """What the rivals have counted."""
    return lambda: int(stage.services.redis.get(DONE) or 0)
