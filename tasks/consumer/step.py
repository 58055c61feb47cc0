"""How the event lane gets into a worker: a step of the worker, not of its connection to Redis."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from celery import bootsteps, signals
from celery.worker import state

from pipeline.contract import EVENTS_QUEUE
from pipeline.installation import queues_of
from pipeline.upkeep import heartbeats
from tasks.adoption import Adoption, warn_of_shared_queue
from tasks.app import broker_url, counters, settings
from tasks.consumer.batch_consumer import BatchConsumer
from tasks.consumer.heartbeat import say_alive
from tasks.consumer.lane import Chore, EventLane

TASK_EVENTS_PER_S = 10
_ADOPT_EVERY_S = 1.0


class EventLaneStep(bootsteps.StartStopStep):
    """Runs the event lane in a worker that consumes events from Redis, and takes their queues off
    kombu. With RabbitMQ there is none: Celery consumes, and the task counts."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        """Celery calls this once for a worker."""
        super().__init__(worker, **options)
        self._worker = worker
        self._sampled_at_s = self._sampled = 0
        worker.event_lane = None
        broker, queues = broker_url(), _chosen_queues(worker)
        if broker is not None and queues and EVENTS_QUEUE not in queues:
            prefix = counters().keys.prefix
            signals.worker_ready.connect(
                lambda **_: warn_of_shared_queue(broker, prefix), weak=False
            )

    def include_if(self, worker: Any) -> bool:
        """Whether there is a lane to run."""
        return broker_url() is None and bool(_chosen_queues(worker))

    def create(self, worker: Any) -> EventLane:
        """The lane, which Celery starts and stops with the worker."""
        queues = _chosen_queues(worker)
        worker.app.amqp.queues.deselect(queues)
        client, keys = counters().client, counters().keys
        batches = BatchConsumer(self._report)
        lane = EventLane(client, keys, queues, batches, settings().visibility_timeout_s)
        adoption = Adoption(client, keys.prefix, takes_all=EVENTS_QUEUE in queues)
        lane.chores.append(Chore(_ADOPT_EVERY_S, adoption.run))
        lane.chores.append(
            Chore(heartbeats.EVERY_S, lambda: say_alive(["events"], worker.hostname))
        )
        signals.worker_shutting_down.connect(lambda **_: lane.ask_to_stop(), weak=False)
        worker.event_lane = lane
        return lane

    def _report(self, counted: Sequence[tuple[str, str]]) -> None:
        """Keep the worker's own counts true, and show monitors a sample of the tasks."""
        state.all_total_count[0] += len(counted)
        state.total_count.update(task for task, _ in counted)
        now_s = int(time.monotonic())
        if now_s != self._sampled_at_s:
            self._sampled_at_s, self._sampled = now_s, 0
        sample = counted[: TASK_EVENTS_PER_S - self._sampled]
        self._sampled += len(sample)
        if sample and (consumer := getattr(self._worker, "consumer", None)):
            # In the consumer's thread, which owns the connection.
            consumer.call_soon(_show, consumer, sample)


def _show(consumer: Any, sample: Sequence[tuple[str, str]]) -> None:
    events = consumer.event_dispatcher
    if events is None or not events.enabled:
        return
    for task, task_id in sample:
        events.send("task-received", uuid=task_id, name=task, args="", kwargs="", retries=0)
        events.send("task-succeeded", uuid=task_id, result="None", runtime=0.0)


def _chosen_queues(worker: Any) -> list[str]:
    """The queues of events that a worker consumes: this installation's, and the one that all
    installations shared before."""
    chosen = worker.app.amqp.queues.consume_from
    ours = queues_of(counters().keys.prefix).events
    return [name for name in dict.fromkeys((ours, EVENTS_QUEUE)) if name in chosen]
