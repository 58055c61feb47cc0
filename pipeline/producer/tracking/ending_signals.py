"""Signals that end a process without `atexit`: what its trackers hold is sent first.

A process that handles no SIGTERM ends at once. So does one under uvicorn: after its shutdown it
puts back the handler that it found, mostly none, and sends itself the signal again. A signal that
the application handles stays its own.
"""

from __future__ import annotations

import _thread
import asyncio
import logging
import os
import re
import signal
import sys
import types
import weakref
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

_ENDING = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
_uvicorns: weakref.WeakSet[Any] = weakref.WeakSet()

logger = logging.getLogger(__name__)


class Endings:
    """Calls `close` before a signal ends this process, and `flush` at the end of a uvicorn server,
    which the process may outlive."""

    def __init__(self, close: Callable[[], None], flush: Callable[[], None]) -> None:
        """Watches nothing yet."""
        self._close, self._flush = close, flush
        self._ending_pid = 0  # of the process that is sending what is left
        self._has_warned = False

    def watch(self, *, warns: bool = False) -> None:
        """Watch what can be watched from this thread; may be repeated, which costs microseconds.

        Only the main thread can have signals handled: `warns` says so where it is needed.
        """
        if not self._follow_uvicorn() and not self._handle_signals() and warns:
            self._warn()

    def _handle_signals(self) -> bool:
        """Handle those that have no handler; False where that is left to the main thread."""
        if os.getpid() == 1:
            return True  # the first process of a container is not ended by what it does not handle
        try:
            for number in _ENDING:
                if is_unhandled(number):
                    signal.signal(number, self._end)
        except ValueError:
            return False
        return True

    def _end(self, number: int, _frame: types.FrameType | None) -> None:
        """Handle a signal, and a repeat of it while events are sent, such as that of a supervisor
        beside that of its process group."""
        if self._ending_pid == os.getpid():
            return
        self._ending_pid = os.getpid()
        if isinstance(_thread.start_new_thread, types.BuiltinFunctionType):
            self._close_and_end(number)
        else:
            # gevent or eventlet: this may be their hub, which must not wait.
            _thread.start_new_thread(self._close_and_end, (number,))

    def _close_and_end(self, number: int) -> None:
        try:
            self._close()
        finally:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _follow_uvicorn(self) -> bool:
        """Whether a uvicorn server handles SIGTERM; it then flushes at the end of its shutdown."""
        module = sys.modules.get("uvicorn.server")
        server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if module is None or not isinstance(server, module.Server):
            return False
        if server not in _uvicorns:
            _uvicorns.add(server)
            server.shutdown = _followed(server.shutdown, self._flush)
        return True

    def _warn(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "SIGTERM will end this process without the events that its trackers hold: import "
                "Tracker in the main thread, at the top of a module say, or handle SIGTERM and "
                "close the tracker"
            )


def _followed(shutdown: Callable[..., Any], flush: Callable[[], None]) -> Callable[..., Any]:
    @wraps(shutdown)
    async def shutdown_and_flush(*args: Any, **options: Any) -> None:
        try:
            await shutdown(*args, **options)
        finally:
            await asyncio.to_thread(flush)

    return shutdown_and_flush


def is_unhandled(number: signal.Signals) -> bool:
    """Whether a signal ends the process at once. Python knows nothing of handlers in C, such as
    those of a server that embeds it; Linux does."""
    if signal.getsignal(number) is not signal.SIG_DFL:
        return False
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return True
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", status, re.MULTILINE)
    return caught is None or not int(caught[1], 16) >> (number - 1) & 1
