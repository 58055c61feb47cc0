"""`BackgroundSender`: the buffer of a `Tracker` and the thread that sends what it holds."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec
from kombu.exceptions import OperationalError

from pipeline.days import UTC
from pipeline.event.model import Event
from pipeline.producer import withheld
from pipeline.producer.sender import TRY_S, Sender
from pipeline.producer.settings import current_settings
from pipeline.producer.tracking import process_hooks
from pipeline.producer.tracking.buffer import Buffer, Limits
from pipeline.redis.connections import PATCHED_LATE

_PAUSE_S = 0.1
"""Between two tries of a message that could not be sent."""

logger = logging.getLogger(__name__)


class BackgroundSender:
    """A buffer, and the thread that sends its messages one after the other, each until it is taken.

    Where the thread has ended or never begun, the thread that closes sends what is left. A signal
    handler may interrupt either, and close too: the thread that holds `_seat` sends.
    """

    def __init__(
        self,
        limits: Limits,
        drops: bool,
        on_drop: Callable[[int], None] | None,
        spool_dir: Path | None,
        spool_bytes: int,
    ) -> None:
        """Starts nothing yet: the thread begins with the first event. `drops`, `on_drop`: see
        `Buffer`; messages go to `spool_dir` while the broker is away, if one is given."""
        self._limits, self._drops, self._on_drop = limits, drops, on_drop
        self._spool_dir, self._spool_bytes = spool_dir, spool_bytes
        self._begin()
        process_hooks.add(self)

    def _begin(self) -> None:
        self.buffer = Buffer(self._limits, self._drops, self._on_drop)
        self._seat = threading.Lock()
        self._seated = 0  # the thread that holds it
        self._sender: Sender | None = None
        self._give_up_at_s = 0.0
        self._is_at_end = False

    def begin_in_child(self) -> None:
        """Begin with an empty buffer in a forked child, closed if this was: what the parent's holds
        the parent sends."""
        was_closed = self.buffer.is_closed
        self._begin()
        self.buffer.is_closed = was_closed

    def withhold(self, event: bytes) -> bool:
        """Whether sending is turned off and the buffer is open; the event is then recorded or
        dropped here, and no thread needed."""
        if current_settings().enabled or (self.buffer.is_closed and not self._is_at_end):
            return False
        withheld.put([Event.from_wire(msgspec.json.decode(event), now=datetime.now(UTC))])
        return True

    def put(self, event: bytes) -> None:
        """Put in an event that the buffer does not take at once; waits for room.

        Raises RuntimeError after `close`, and the errors of `start`.
        """
        if self.withhold(event):
            return
        if self._is_at_end and threading.current_thread() is threading.main_thread():
            self.buffer.put_late(event)
            self.close(TRY_S)
            return
        self.start()
        self.buffer.put(event)

    def start(self) -> None:
        """Have a thread send, where none does yet.

        Raises RuntimeError after `close`, and `InvalidConfiguration` where nothing can be sent with
        these settings, and so in the thread that tracks the first event.
        """
        if self.buffer.has_old_locks():
            if "eventlet" in sys.modules:
                logger.warning(PATCHED_LATE)
            self._seat = threading.Lock()
            self.buffer.make_locks()
        with self.buffer.lock:
            self.buffer.check_open()
            if not self.buffer.has_sender:
                self._open_sender()
                threading.Thread(target=self._run, name="analytics-tracker", daemon=True).start()
                self.buffer.has_sender = True
                process_hooks.close_with_process()

    def flush(self, timeout_s: float | None) -> None:
        """Wait until all that was put in before is accepted: see `Tracker.flush`."""
        buffer = self.buffer
        with buffer.lock:
            target = buffer.hurry()
            buffer.wait_until(lambda: self.is_settled(target), timeout_s)
            buffer.check_removed(target)

    def is_settled(self, target: int) -> bool:
        """Whether so many events have left the buffer, or no thread will send more."""
        buffer = self.buffer
        is_hopeful = buffer.has_sender and not buffer.is_closed
        return buffer.removed >= target or not (is_hopeful or self._is_sent_elsewhere())

    def close(self, timeout_s: float) -> None:
        """Send what is in the buffer, and end. May be repeated. Raises `EventsNotAccepted`."""
        buffer = self.buffer
        with buffer.lock:
            self._give_up_at_s = time.monotonic() + timeout_s
            buffer.close()
            # Else the thread does it, or an earlier close has given up.
            does_it = bool(self._sender or buffer.waiting()) and self._seat.acquire(blocking=False)
        if does_it:
            self._send_all()
        with buffer.lock:
            buffer.wait_until(lambda: not self._is_sent_elsewhere(), timeout_s + TRY_S)
            buffer.check_removed(buffer.removed + buffer.waiting())

    def close_at_end(self, timeout_s: float) -> None:
        """Close with the process. What its main thread tracks after that, as functions of `atexit`
        may, is sent at once. Raises `EventsNotAccepted`."""
        is_first = not self.buffer.is_closed
        try:
            self.close(timeout_s)
        finally:
            self._is_at_end = self._is_at_end or is_first

    def _is_sent_elsewhere(self) -> bool:
        return self._seat.locked() and self._seated != threading.get_ident()

    def _open_sender(self) -> Sender:
        """Kept after a close that gave up, since it knows the number of the message it tried."""
        with process_hooks.no_fork:
            self._sender = sender = self._sender or Sender(self._spool_dir, self._spool_bytes)
        return sender

    def _run(self) -> None:
        """One thread too many, which a signal handler may have started, ends at once."""
        if self._seat.acquire(blocking=False):
            self._send_all()

    def _send_all(self) -> None:
        """Send until the buffer is closed, and all is sent or the time is up."""
        self._seated = threading.get_ident()
        buffer, seat = self.buffer, self._seat
        is_away = False
        try:
            sender = self._open_sender()
            while not self._may_end(sender):
                message = buffer.next_message(sender.due_in_s())
                if self.buffer is not buffer:
                    return  # a thread of gevent or eventlet, which goes on in a forked child
                if not message:
                    sender.send_spooled()
                    continue
                try:
                    sender.send(message)
                except Exception as error:
                    if not is_away:
                        text = "events wait in memory until they can be sent: %s"
                        unexpected = not isinstance(error, OperationalError)
                        logger.warning(text, error, exc_info=unexpected)
                    is_away = True
                    buffer.pause(_PAUSE_S)
                else:
                    is_away = False
                    buffer.remove(message)
            with buffer.lock:
                if not buffer.waiting():
                    sender.close()
                    self._sender = None
        finally:
            with buffer.lock:
                buffer.has_sender = False
                seat.release()
                buffer.notify_progress()

    def _may_end(self, sender: Sender) -> bool:
        with self.buffer.lock:
            if not self.buffer.is_closed:
                return False
            may_send = self.buffer.waiting() or sender.due_in_s() == 0
            return not may_send or time.monotonic() >= self._give_up_at_s
