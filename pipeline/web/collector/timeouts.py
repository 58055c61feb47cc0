"""Timeouts of many tasks by one timer: with `asyncio.timeout`, each with its own, they would be a
tenth of what a request costs."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

_CHECK_INTERVAL_S = 0.1


class SharedTimeout:
    """Limits blocks to so many seconds, give or take a tenth; of one event loop.

    In `with timeout.limit(task): …` a block that takes longer is cancelled and raises
    TimeoutError. A limit that is entered again holds for all of its blocks together.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._blocks: dict[_LimitedBlock, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def limit(self, task: asyncio.Task[object] | None) -> _LimitedBlock:
        """Limit a block of this task, which is the current one."""
        return _LimitedBlock(self, task)

    def begin(self, block: _LimitedBlock) -> None:
        """Start the clock of a block that is entered."""
        block.until_s = time.monotonic() + block.left_s
        self._blocks[block] = None
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_CHECK_INTERVAL_S, self._cancel_late, loop)

    def end(self, block: _LimitedBlock) -> None:
        """Stop the clock of a block that is left."""
        block.left_s = block.until_s - time.monotonic()
        del self._blocks[block]

    def _cancel_late(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = time.monotonic()
        for block in self._blocks:
            if block.until_s <= now_s:
                block.cancel()
        self._timer = (
            loop.call_later(_CHECK_INTERVAL_S, self._cancel_late, loop) if self._blocks else None
        )


class _LimitedBlock:
    __slots__ = ("_is_late", "_task", "_timeout", "left_s", "until_s")

    def __init__(self, timeout: SharedTimeout, task: asyncio.Task[object] | None) -> None:
        self._timeout, self._task = timeout, task
        self._is_late = False
        self.until_s, self.left_s = 0.0, timeout.timeout_s

    def cancel(self) -> None:
        """Cancel the task: its block is late."""
        if not self._is_late and self._task is not None:
            self._is_late = True
            self._task.cancel()

    def __enter__(self) -> None:
        self._timeout.begin(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timeout.end(self)
        if self._is_late and self._task is not None:
            cancelled_by_others = self._task.uncancel() > 0
            if kind is asyncio.CancelledError and not cancelled_by_others:
                raise TimeoutError from error
