"""Workers and beat say in Redis that they live, for `/readyz` and health checks, and workers see to
what is wanted."""

from __future__ import annotations

import logging
from socket import gethostname
from typing import Any

import redis
from celery import beat, bootsteps
from kombu.exceptions import OperationalError

from pipeline.installation import queues_of
from pipeline.upkeep import heartbeats
from pipeline.upkeep.condition.history import take_sample
from pipeline.upkeep.heartbeats import NodeKind
from tasks.app import broker_url, counters
from tasks.lane_task import send_wanted

logger = logging.getLogger(__name__)


class HeartbeatStep(bootsteps.StartStopStep):
    """Beats while Celery takes messages of our queues. The event lane beats for itself."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    _timer: Any = None

    def start(self, consumer: Any) -> None:
        """Beat now and from now on."""
        queues = {queue.name for queue in consumer.task_consumer.queues}
        ours = queues_of(counters().keys.prefix)
        kinds_of: dict[str, NodeKind] = {ours.events: "events", ours.flush: "flush"}
        kinds = [kind for name, kind in kinds_of.items() if name in queues]
        say_alive(kinds, consumer.hostname)
        self._timer = consumer.timer.call_repeatedly(
            heartbeats.EVERY_S, say_alive, (kinds, consumer.hostname)
        )

    def stop(self, consumer: Any) -> None:
        """No more: the connection is gone, or the worker ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class BeatScheduler(beat.Scheduler):
    """Beat's clock, which says that it ticks."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Ask for what is due; returns the seconds until the next tick."""
        wait_s: float = super().tick(*args, **kwargs)
        if wait_s > 0:  # nothing more is due now
            say_alive(["beat"], f"celerybeat@{gethostname()}")
        return min(wait_s, heartbeats.EVERY_S)


def say_alive(kinds: list[NodeKind], name: str) -> None:
    """Say that this node lives; while Redis is away it says nothing. A worker sees to it that those
    of the version before know the ids of what it counts."""
    client, keys = counters().client, counters().keys
    try:
        for kind in kinds:
            heartbeats.beat(client, keys, kind, name)
        if "beat" not in kinds:
            heartbeats.share_ids(client, keys, counters().half_window_s)
        if "flush" in kinds:
            send_wanted()
            take_sample(client, keys, with_queue=not broker_url())
    except (redis.RedisError, OperationalError) as error:
        logger.debug("no heartbeat: %s", error)
