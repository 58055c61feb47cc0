"""Asking a worker for a report: a message for the maintenance queue, from a process that has no
worker's settings."""

from __future__ import annotations

from uuid import UUID

from kombu import Exchange, Queue

from pipeline.contract import MAKE_REPORT
from pipeline.installation import queues_of
from pipeline.producer.app import app

_CONFIRM_TIMEOUT_S = 5.0


def ask_for_report(report_id: UUID, prefix: str) -> None:
    """Send the request, in one try. Raises what Celery does where the broker is away."""
    name = queues_of(prefix).maintenance
    queue = Queue(name, exchange=Exchange(""), routing_key=name, no_declare=True)
    app.send_task(
        MAKE_REPORT,
        (str(report_id),),
        queue=queue,
        retry=False,
        ignore_result=True,
        confirm_timeout=_CONFIRM_TIMEOUT_S,
    )
