"""Time limits for many tasks by one timer: one each would be a tenth of what a request costs."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

_EVERY_S = 0.1


class Patience:
    """Limits what is done within it to so many seconds, give or take a tenth; of one event loop.

    With `with patience.limit(task): …` whatever takes longer is cancelled, and TimeoutError raised.
    """

    def __init__(self, within_s: float) -> None:
        self.within_s = within_s
        self._limits: dict[_Limit, None] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None

    def limit(self, task: asyncio.Task[object] | None) -> _Limit:
        """The limit for one thing that is done by this task, the current one."""
        return _Limit(self, task)

    def begin(self, limit: _Limit) -> None:
        """Watch it."""
        limit.until_s = time.monotonic() + self.within_s
        self._limits[limit] = None
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_EVERY_S, self._look, loop)

    def end(self, limit: _Limit) -> None:
        """Watch it no more."""
        del self._limits[limit]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = time.monotonic()
        for limit in self._limits:
            if limit.until_s > now_s:
                break
            limit.cancel()
        self._timer = loop.call_later(_EVERY_S, self._look, loop) if self._limits else None


class _Limit:
    __slots__ = ("_is_over", "_patience", "_task", "until_s")

    def __init__(self, patience: Patience, task: asyncio.Task[object] | None) -> None:
        self._patience, self._task = patience, task
        self._is_over = False
        self.until_s = 0.0

    def cancel(self) -> None:
        """The time is over."""
        if not self._is_over and self._task is not None:
            self._is_over = True
            self._task.cancel()

    def __enter__(self) -> None:
        self._patience.begin(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._patience.end(self)
        if self._is_over and self._task is not None:
            cancelled_by_others = self._task.uncancel() > 0
            if kind is asyncio.CancelledError and not cancelled_by_others:
                raise TimeoutError from error
