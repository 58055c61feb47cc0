"""Celery's consumer of messages, where it would lose one or wait for RabbitMQ without end.

What the batch consumer does not take comes this way: on Redis what is unusual, on RabbitMQ all.
"""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from celery.exceptions import Reject
from celery.worker import consumer

from pipeline.contract import TAG_PREFIX
from pipeline.counting.batch import BadEvent, Delivery
from tasks.consumer.applying import apply_patiently
from tasks.transport.unacknowledged import SERVER_ERRORS

logger = logging.getLogger(__name__)


class Consumer(consumer.Consumer):
    """Keeps what it cannot run as a dead letter; Celery discards it."""

    class Blueprint(consumer.Consumer.Blueprint):
        """Celery's steps without native delayed delivery: 28 queues in RabbitMQ, for topic
        exchanges only, and ours is the nameless one."""

        default_steps = tuple(
            step
            for step in consumer.Consumer.Blueprint.default_steps
            if not step.endswith(":DelayedDelivery")
        )

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """What takes a message. One that breaks Celery's code must not end the worker: it would
        return to its queue, and end the next one."""
        handle = super().create_task_handler(*args, **kwargs)
        lost = (*SERVER_ERRORS, *self.connection_errors, *self.channel_errors)

        def handle_or_bury(message: Any) -> Any:
            try:
                return handle(message)
            except lost:
                raise
            except Exception as error:
                self._bury(message, f"breaks Celery's code: {error!r:.500}")
                return None

        return handle_or_bury

    def connection_for_write(self, url: str | None = None, heartbeat: float | None = None) -> Any:
        """The connection for what monitors see. Without confirms: while RabbitMQ is short of memory
        none comes, and a worker that waits for one frees no memory."""
        connection = self.app.connection_for_write(url=url, heartbeat=heartbeat)
        connection.transport_options.pop("confirm_publish", None)
        return self.ensure_connected(connection)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """A message that is none of Celery's."""
        self._bury(message, "is not a Celery message")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A task that we do not have."""
        self._bury(message, f"there is no task {exc}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A message that is not as Celery wants it."""
        self._bury(message, f"is not valid: {exc}")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """A body that cannot be read."""
        self._bury(message, f"cannot be read: {exc}")

    def _bury(self, message: Any, reason: str) -> None:
        logger.error("a message becomes a dead letter: it %s", reason)
        tag = (message.properties or {}).get("delivery_tag")  # only kombu's Redis transport has it
        headers = message.headers if isinstance(message.headers, dict) else {}
        ours = tag is not None and tag.startswith(TAG_PREFIX)
        task_id = None if ours or headers.get("id") is None else str(headers["id"])
        bad = BadEvent(_as_json(message), f"message: {reason}", kind="message")
        try:
            apply_patiently(Delivery((), [bad], tag=tag, task_id=task_id, raw=bad.raw))
        except Reject:  # told to stop meanwhile: not acknowledged, it returns to the queue
            return
        message.ack_log_error(logger, self.connection_errors)


def _as_json(message: Any) -> bytes:
    """The message in the form that it has in Redis."""
    body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
    whole = {
        "body": b64encode(body).decode(),
        "content-encoding": message.content_encoding,
        "content-type": message.content_type,
        "headers": message.headers,
        "properties": {**(message.properties or {}), "body_encoding": "base64"},
    }
    return json.dumps(whole, default=repr).encode()
