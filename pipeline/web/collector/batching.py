"""Publishing in batches: the events of all requests that wait share one Celery message.

While a message is in flight the next requests gather, so a busy collector sends large messages and
a quiet one does not wait. A request's events are in one message, hence accepted whole or not at
all. Access keys take turns, so that one with much waiting holds up no other. A message whose
publish failed is not sent again. The broker may have taken it; all of its requests are refused, and
their clients send the events again under the same ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from kombu.exceptions import OperationalError

from pipeline.contract import MAX_EVENTS_PER_MESSAGE, MAX_MESSAGE_BYTES
from pipeline.errors import ServerUnavailable
from pipeline.measures import PUBLISH_EVENTS, PUBLISH_S
from pipeline.producer.sender import Sender
from pipeline.traces.spans import find_tracer

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _WaitingRequest:
    """A request's events, and the future that its handler waits for."""

    events: Sequence[bytes]
    size: int
    accepted: asyncio.Future[None]
    trace: dict[str, str] | None = None
    """Of the request, where spans are recorded."""


_Wait = Callable[[Sequence[bytes], int, asyncio.Future[None]], _WaitingRequest]


def _wait_traced(
    events: Sequence[bytes], size: int, accepted: asyncio.Future[None]
) -> _WaitingRequest:
    from pipeline.traces.carried import describe_trace  # loads OpenTelemetry

    return _WaitingRequest(events, size, accepted, describe_trace())


def _send_traced(
    sender: Sender, message: Sequence[_WaitingRequest], events: Sequence[bytes]
) -> None:
    from pipeline.traces.carried import sharing

    with sharing(waiting.trace or {} for waiting in message):
        sender.send_once(events)


class BatchingPublisher:
    """Publishes the events of a collector; of one event loop."""

    def __init__(self) -> None:
        # By access key; the next one to be served comes first, and none is empty.
        self._waiting: dict[str, deque[_WaitingRequest]] = {}
        self._wake = asyncio.Event()
        self._is_away = self._is_closing = False
        self._is_traced = find_tracer() is not None
        self._wait: _Wait = _wait_traced if self._is_traced else _WaitingRequest

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Publishes while this is entered; what waits at the end is published first."""
        # Publishing blocks, and one message at a time is in flight: their numbers are in order.
        with ThreadPoolExecutor(1, "analytics-collector") as thread:
            sender = Sender(None, 0)
            sending = asyncio.create_task(self._publish_all(sender, thread))
            try:
                yield
            finally:
                self._is_closing = True
                self._wake.set()
                await asyncio.wait([sending])
                thread.submit(sender.close)

    async def publish(self, events: Sequence[bytes], key_id: str) -> None:
        """Wait until the events, sent with this access key, are accepted.

        Raises `ServerUnavailable` when they are not, or when that is not known: sent again under
        the same ids they count once. Cancelling the wait withdraws them as long as their message is
        not in flight.
        """
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        size = sum(map(len, events)) + len(events)
        waiting = self._waiting.get(key_id)
        if waiting is None:
            waiting = self._waiting[key_id] = deque()
        request = self._wait(events, size, accepted)
        waiting.append(request)
        self._wake.set()
        try:
            await accepted
        finally:
            request.events = ()  # one that gave up may wait for its turn, without them

    async def _publish_all(self, sender: Sender, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            message = self._take_message()
            if not message and self._is_closing:
                return
            if not message:
                self._wake.clear()
                await self._wake.wait()
                # Requests that came in the same turn of the loop go together.
                await asyncio.sleep(0)
                continue
            events = [event for waiting in message for event in waiting.events]
            send: Callable[[Sequence[bytes]], None] = sender.send_once
            if self._is_traced:
                send = partial(_send_traced, sender, message)
            began_s = loop.time()
            try:
                await loop.run_in_executor(thread, send, events)
            except Exception as error:
                PUBLISH_S.note(loop.time() - began_s, "refused")
                self._log_outage(error)
                self._settle(message, error)
            else:
                PUBLISH_S.note(loop.time() - began_s, "accepted")
                PUBLISH_EVENTS.note(len(events))
                self._is_away = False
                self._settle(message, None)

    def _take_message(self) -> list[_WaitingRequest]:
        """As many as one message holds, one of each key in turn, the oldest of a key first, without
        those that gave up."""
        message: list[_WaitingRequest] = []
        events = size = 0
        while self._waiting:
            key_id, waiting = next(iter(self._waiting.items()))
            first = waiting[0]
            if not first.accepted.done():
                events += len(first.events)
                size += first.size
                if message and (events > MAX_EVENTS_PER_MESSAGE or size > MAX_MESSAGE_BYTES):
                    break
                message.append(first)
            waiting.popleft()
            if not waiting:
                del self._waiting[key_id]
            elif len(self._waiting) > 1:
                self._waiting[key_id] = self._waiting.pop(key_id)
        return message

    def _settle(self, message: Sequence[_WaitingRequest], error: Exception | None) -> None:
        for waiting in message:
            if waiting.accepted.done():
                continue
            if error is None:
                waiting.accepted.set_result(None)
            else:
                waiting.accepted.set_exception(
                    ServerUnavailable(f"the events were not accepted: {error}")
                )

    def _log_outage(self, error: Exception) -> None:
        if not self._is_away:
            unexpected = not isinstance(error, OperationalError)
            logger.warning("events cannot be published: %s", error, exc_info=unexpected)
        self._is_away = True
