"""How the batch consumer gets into a worker: a step of Celery's consumer."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import redis
from celery import bootsteps
from celery.worker import state

from pipeline.contract import EVENTS_QUEUE
from tasks.app import broker_url, counters
from tasks.consumer.adoption import Adoption, warn_of_shared_queue
from tasks.consumer.batch_consumer import BatchConsumer

TASK_EVENTS_PER_S = 10
_ADOPT_EVERY_S = 1.0

logger = logging.getLogger(__name__)


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
        channel, prefix = consumer.task_consumer.channel, counters().keys.prefix
        takes_all = any(queue.name == EVENTS_QUEUE for queue in consumer.task_consumer.queues)
        if hasattr(channel, "raw_handler"):
            channel.raw_handler = self._batches.handle
            channel.raw_idle = self._batches.finish
            adoption = Adoption(counters().client, prefix, takes_all=takes_all)
            self._adoption = consumer.timer.call_repeatedly(_ADOPT_EVERY_S, adoption.run)
        elif (broker := broker_url()) is not None and not takes_all:
            warn_of_shared_queue(broker, prefix)

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
