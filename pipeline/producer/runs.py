"""Asking a worker for a run of a task that has a lane: a message for its queue, from a process that
has no worker's settings."""

from __future__ import annotations

from kombu import Exchange, Queue

from pipeline.producer.app import app

_CONFIRM_TIMEOUT_S = 5.0


def ask_for_run(task: str, queue: str) -> None:
    """Send the request, in one try. Raises what Celery does where the broker is away."""
    app.send_task(
        task,
        queue=Queue(queue, exchange=Exchange(""), routing_key=queue, no_declare=True),
        retry=False,
        ignore_result=True,
        confirm_timeout=_CONFIRM_TIMEOUT_S,
    )
