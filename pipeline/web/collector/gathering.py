"""Publishing for many requests at once: the events of those that wait share one Celery message.

While a message is being published the next requests gather, so a busy collector sends large
messages and a quiet one waits for nobody. A request's events are in one message, hence taken whole
or not at all. A message whose publish failed is given up. It may have been taken; its requests are
all told that it was not, and their clients send the events again under the same ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kombu.exceptions import OperationalError

from pipeline.contract import MAX_EVENTS_PER_MESSAGE, MAX_MESSAGE_BYTES
from pipeline.errors import ServerUnavailable
from pipeline.producer.sender import Sender

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Waiting:
    """A request's events, and who is told when they are accepted."""

    events: Sequence[bytes]
    size: int
    accepted: asyncio.Future[None]


class Gatherer:
    """The way out of a collector, of one event loop."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._work = asyncio.Event()
        self._is_away = self._is_closing = False
        self.messages = 0
        """How many messages were published."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Publishes while this is entered; what waits at the end is published first."""
        # Publishing blocks, and one message at a time is on its way: their numbers are in order.
        with ThreadPoolExecutor(1, "analytics-collector") as thread:
            sender = Sender(None, 0)
            sending = asyncio.create_task(self._send_all(sender, thread))
            try:
                yield
            finally:
                self._is_closing = True
                self._work.set()
                await asyncio.wait([sending])
                thread.submit(sender.close)

    async def publish(self, events: Sequence[bytes]) -> None:
        """Wait until the events are accepted.

        Raises `ServerUnavailable` when they are not, or when nobody knows: sent again under the
        same ids they count once. Whoever stops waiting takes them back as long as their message is
        not on its way.
        """
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(events, sum(map(len, events)) + len(events), accepted))
        self._work.set()
        await accepted

    async def _send_all(self, sender: Sender, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            message = self._next_message()
            if not message and self._is_closing:
                return
            if not message:
                self._work.clear()
                await self._work.wait()
                # Requests that came in the same turn of the loop go together.
                await asyncio.sleep(0)
                continue
            events = [event for waiting in message for event in waiting.events]
            try:
                await loop.run_in_executor(thread, sender.send_once, events)
            except Exception as error:
                self._note(error)
                self._tell(message, error)
            else:
                self._is_away = False
                self.messages += 1
                self._tell(message, None)

    def _next_message(self) -> list[_Waiting]:
        """The oldest that wait, as many as one message holds, without those that gave up."""
        message: list[_Waiting] = []
        events = size = 0
        while self._waiting:
            first = self._waiting[0]
            if not first.accepted.done():
                events += len(first.events)
                size += first.size
                if message and (events > MAX_EVENTS_PER_MESSAGE or size > MAX_MESSAGE_BYTES):
                    break
                message.append(first)
            self._waiting.popleft()
        return message

    def _tell(self, message: Sequence[_Waiting], error: Exception | None) -> None:
        for waiting in message:
            if waiting.accepted.done():
                continue
            if error is None:
                waiting.accepted.set_result(None)
            else:
                waiting.accepted.set_exception(
                    ServerUnavailable(f"the events were not accepted: {error}")
                )

    def _note(self, error: Exception) -> None:
        if not self._is_away:
            unexpected = not isinstance(error, OperationalError)
            logger.warning("events cannot be published: %s", error, exc_info=unexpected)
        self._is_away = True
