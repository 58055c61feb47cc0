"""Celery's consumer of messages, where it would lose one, end the worker or wait for RabbitMQ
without end.

What the event lane does not take comes this way: on Redis the jobs, on RabbitMQ all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import redis
from celery.exceptions import Reject
from celery.worker import consumer

from pipeline.counting.batch import BadEvent, Delivery
from tasks.app import broker_url
from tasks.consumer.applying import apply_patiently
from tasks.consumer.unreadable import pack, unwrap, wrap_unreadable

_PAUSE_S = 1.0

logger = logging.getLogger(__name__)


class Consumer(consumer.Consumer):
    """Keeps what it cannot run as a dead letter; Celery discards it.

    A broadcast that kombu cannot read, such as a control command, raises in Celery's event loop
    whatever it likes. Celery would end the worker for it; here it makes its connection anew, as for
    any error of a channel. Each worker has its own copy, and none would ever act on it.
    """

    channel_errors: tuple[type[Exception], ...]

    class Blueprint(consumer.Consumer.Blueprint):
        """Celery's steps without native delayed delivery: 28 queues in RabbitMQ, for topic
        exchanges only, and ours is the nameless one."""

        default_steps = tuple(
            step
            for step in consumer.Consumer.Blueprint.default_steps
            if not step.endswith(":DelayedDelivery")
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        known = (OSError, redis.RedisError, *self.connection_errors, *self.channel_errors)
        # kombu counts KeyError among them, which a bad message may well raise.
        self._lost = tuple(error for error in known if error is not KeyError)
        self.channel_errors = (*self.channel_errors, Exception)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """What takes a message. One that breaks Celery's code must not end the worker: it would
        return to its queue, and end the next one."""
        handle = super().create_task_handler(*args, **kwargs)
        if broker_url() is None:
            wrap_unreadable(self.task_consumer.channel)

        def handle_or_bury(message: Any) -> Any:
            if unreadable := unwrap(message):
                self._bury(message, f"cannot be read: {unreadable[1]}", raw=unreadable[0])
                return None
            try:
                return handle(message)
            except self._lost:
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

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Redis does not answer, or refuses what Celery begins with, as a full one does."""
        super().on_connection_error_before_connected(exc)
        self._pause(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """The connection is lost, or is made anew since something was refused."""
        try:
            super().on_connection_error_after_connected(exc)
        except AttributeError as error:
            # To close the lost connection kombu gives back what waits to be acknowledged, over a
            # connection whose address it has let go of by then. That would end the worker; what it
            # had returns after the visibility timeout.
            logger.debug("the lost connection is not closed cleanly: %s", error)
        self._pause(exc)

    def _pause(self, error: Exception) -> None:
        # For a lost connection Celery pauses by itself, when it makes the next.
        if isinstance(error, redis.ResponseError):
            time.sleep(_PAUSE_S)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """A message that is none of Celery's."""
        self._bury(message, "is not a Celery message")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A task that we do not have."""
        self._bury(message, f"names no task of ours: {exc}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A message that is not as Celery wants it."""
        self._bury(message, f"is not valid: {exc}")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """A body that cannot be read."""
        self._bury(message, f"cannot be read: {exc}")

    def _bury(self, message: Any, reason: str, raw: bytes | None = None) -> None:
        # In Redis a message has a tag of its own, which it keeps when it is delivered again.
        headers = message.headers if isinstance(message.headers, dict) else {}
        task_id = headers.get("id") or (message.properties or {}).get("delivery_tag")
        ids = {"task_id": task_id}
        logger.error("a message becomes a dead letter: it %s", reason, extra=ids)
        if raw is None:
            raw = _as_json(message)
        bad = BadEvent(raw, f"message: {reason}", kind="message")
        delivery = Delivery((), [bad], task_id=task_id and str(task_id), raw=bad.raw)
        try:
            apply_patiently(delivery)
        except Reject:  # told to stop meanwhile: not acknowledged, it returns to the queue
            return
        message.ack_log_error(logger, self.connection_errors)


def _as_json(message: Any) -> bytes:
    """The message in the form that it has in Redis."""
    given = message.body or b""
    body = given if isinstance(given, bytes | memoryview) else f"{given}".encode()
    properties = message.properties or {}
    return pack(body, message.headers, properties, message.content_type, message.content_encoding)
