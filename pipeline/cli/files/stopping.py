"""Stopping an import by Ctrl-C or SIGTERM, so that every line that was read is sent."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Lets the signals take effect where nothing is in hand: a line that was taken out of a pipe
    cannot be read again, and of a message that is sent by halves the report could not say whether
    it counts. A second signal takes effect at once."""

    def __init__(self) -> None:
        self._noted = False
        self._nothing_in_hand = False

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """During the block a signal raises KeyboardInterrupt `while_waiting` only, or at the end of
        the block. In another thread than the main one, which gets no signals, this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._noted:
            raise KeyboardInterrupt

    @contextmanager
    def while_waiting(self) -> Iterator[None]:
        """A block in which something is waited for, and nothing that was read is in hand."""
        if self._noted:
            raise KeyboardInterrupt
        self._nothing_in_hand = True
        try:
            yield
        finally:
            self._nothing_in_hand = False

    def _note(self, _: int, __: object) -> None:
        if self._noted or self._nothing_in_hand:
            raise KeyboardInterrupt
        self._noted = True
