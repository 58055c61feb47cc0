"""How the extender of the visibility timeout gets into a worker: a step of Celery's consumer."""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from tasks.transport.transport import Channel
from tasks.transport.visibility import Extender


class VisibilityStep(bootsteps.StartStopStep):
    """Extends what Celery has, at every connection to Redis. RabbitMQ gives back what a worker
    holds when its connection ends, and not before."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        """Celery calls this once for a worker."""
        super().__init__(consumer, **options)
        self._extender: Extender | None = None

    def start(self, consumer: Any) -> None:
        """Extend what the new connection brings."""
        channel = consumer.task_consumer.channel
        if isinstance(channel, Channel):
            self._extender = Extender(channel)
            self._extender.start()

    def stop(self, consumer: Any) -> None:
        """No more: the channel is closed, and has given back what it held."""
        if self._extender is not None:
            self._extender.stop()
            self._extender = None
