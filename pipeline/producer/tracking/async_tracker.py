"""`AsyncTracker`: a `Tracker` for asyncio, which never blocks the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any
from uuid import UUID

from pipeline.event.model import encode_event
from pipeline.producer.tracking.buffer import Buffer
from pipeline.producer.tracking.tracker import Tracker


class AsyncTracker:
    """A `Tracker` whose calls are awaited where they may take time. Options as for `Tracker`."""

    def __init__(self, **options: Any) -> None:
        """Starts nothing yet. Raises ValueError."""
        self._background = Tracker(**options).background

    @property
    def dropped(self) -> int:
        """How many events were dropped because the buffer was full."""
        return self._background.buffer.dropped

    async def track(
        self,
        event_type: str,
        user_id: str | int | UUID | None = None,
        properties: Mapping[str, Any] | None = None,
        timestamp: datetime | str | float | None = None,
        event_id: str | int | UUID | None = None,
    ) -> None:
        """Put an event into the buffer, as `Tracker.track`."""
        event = encode_event(event_type, user_id, properties, timestamp, event_id)
        buffer = self._background.buffer
        if not (buffer.put_at_once(event) or self._background.withhold(event)):
            self._background.start()
            await _wait_until(buffer, lambda: buffer.put_at_once(event))

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait until all that was put in before is accepted, as `Tracker.flush`."""
        background, buffer = self._background, self._background.buffer
        target = buffer.hurry()
        waiting = _wait_until(buffer, lambda: background.is_settled(target))
        with suppress(asyncio.TimeoutError):  # of Python 3.10 not the builtin one
            await asyncio.wait_for(waiting, timeout_s)
        buffer.check_removed(target)

    async def close(self, timeout_s: float = 30) -> None:
        """Send what is in the buffer and end, as `Tracker.close`."""
        await asyncio.to_thread(self._background.close, timeout_s)

    async def __aenter__(self) -> AsyncTracker:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


async def _wait_until(buffer: Buffer, condition: Callable[[], bool]) -> None:
    """Wait without a thread: a thread for each event that waits for room would keep `close` from
    getting one."""
    loop = asyncio.get_running_loop()
    while True:
        progress = asyncio.Event()
        wake = partial(_wake, loop, progress)
        if buffer.holds_or_wakes(condition, wake):
            return
        try:
            await progress.wait()
        finally:
            buffer.wakes.pop(wake, None)


def _wake(loop: asyncio.AbstractEventLoop, progress: asyncio.Event) -> None:
    with suppress(RuntimeError):  # that loop has been closed
        loop.call_soon_threadsafe(progress.set)
