"""`Tracker`: events of hot paths, gathered in memory and sent by a background thread.

`track()` costs a few microseconds and no round trip. What it returns from is in a buffer of this
process, not yet accepted: `flush()` waits until the broker has taken everything, and so do `close`,
the end of a `with` block and the end of the program. Each message has its number and is sent under
it until it is taken, so however often that takes, its events are counted once.
"""

from __future__ import annotations

import atexit
import logging
import math
import multiprocessing
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Literal

from celery import signals
from kombu.exceptions import OperationalError

from pipeline.contract import MAX_EVENTS_PER_MESSAGE, MAX_MESSAGE_BYTES
from pipeline.errors import EventsNotAccepted, InvalidEvent
from pipeline.event.model import FIELDS, Event, encode_event
from pipeline.producer.sender import TRY_S, Sender

WhenFull = Literal["block", "drop", "spool"]
_PAUSE_S = 0.1
_AT_EXIT_S = 10.0

logger = logging.getLogger(__name__)


class Tracker:
    """A bounded buffer of events and the thread that sends them. Safe to share between threads.

    `max_events` and `max_bytes` bound a message, `max_age_s` how long an event waits for others.
    `capacity` and `capacity_bytes` bound the buffer; when it is full, `track` waits ("block"),
    drops the event ("drop": counted in `dropped` and told to `on_drop`), or waits for the thread,
    which writes to files in `spool_dir` while the broker is away ("spool": up to `spool_bytes`,
    then as "block"). Files that a killed process left there are sent by the next tracker.

    A fork gives the child an empty buffer; what the parent holds the parent sends.
    """

    def __init__(  # noqa: PLR0913 - each bounds or says something of its own
        self,
        *,
        max_events: int = 500,
        max_bytes: int = 512 * 1024,
        max_age_s: float = 0.2,
        capacity: int = 100_000,
        capacity_bytes: int = 64 * 1024 * 1024,
        when_full: WhenFull = "block",
        on_drop: Callable[[int], None] | None = None,
        spool_dir: Path | str | None = None,
        spool_bytes: int = 1024**3,
    ) -> None:
        """Starts nothing yet: the thread begins with the first event. Raises ValueError."""
        if not 1 <= max_events <= MAX_EVENTS_PER_MESSAGE:
            raise ValueError(f"max_events={max_events}: give 1 to {MAX_EVENTS_PER_MESSAGE}")
        if not 1 <= max_bytes <= MAX_MESSAGE_BYTES // 2:
            raise ValueError(f"max_bytes={max_bytes}: give 1 to {MAX_MESSAGE_BYTES // 2}")
        if not 0 <= max_age_s < math.inf:
            raise ValueError(f"max_age_s={max_age_s}: give seconds, 0 or more")
        if capacity < max_events:
            raise ValueError(f"capacity={capacity}: give max_events={max_events} or more")
        if capacity_bytes < max_bytes:
            raise ValueError(f"capacity_bytes={capacity_bytes}: give max_bytes={max_bytes} or more")
        if when_full not in ("block", "drop", "spool"):
            raise ValueError(f'when_full={when_full!r}: give "block", "drop" or "spool"')
        if (when_full == "spool") != (spool_dir is not None):
            raise ValueError('spool_dir goes with when_full="spool", and is needed there')
        if spool_bytes < 1:
            raise ValueError(f"spool_bytes={spool_bytes}: give 1 or more")
        if on_drop is not None and when_full != "drop":
            raise ValueError('on_drop goes with when_full="drop"')
        self._max_events, self._max_bytes, self._max_age_s = max_events, max_bytes, max_age_s
        self._capacity, self._capacity_bytes = capacity, capacity_bytes
        self._when_full, self._on_drop = when_full, on_drop
        self._spool_dir = Path(spool_dir) if spool_dir is not None else None
        self._spool_bytes = spool_bytes
        self._closed = False
        self._begin()
        _trackers.add(self)

    def _begin(self) -> None:
        """An empty buffer, also in a forked child."""
        # A signal handler may come upon its own thread anywhere in here, and track, flush or close.
        # So the lock can be taken twice, whoever waits gives it up and looks again now and then,
        # and what counts is one step: what is in `_events` is in, and who holds `_seat` sends.
        self._lock = threading.RLock()
        self._seat = threading.Lock()
        self._sending_thread = 0  # the thread that holds it
        self._work = threading.Condition(self._lock)
        self._progress = threading.Condition(self._lock)
        self._callbacks: dict[Callable[[], None], None] = {}  # at the next progress
        self._events: deque[bytes] = deque()
        self._sending: list[bytes] = []  # the message under way: the oldest events
        self._bytes = 0  # of both
        self._out = 0  # events that left the buffer, ever: accepted, or written to the spool
        self._flush_up_to = 0
        self._waits_for = 0  # how many events would wake the thread
        self._is_started = False
        self._sender: Sender | None = None
        self._give_up_at_s = 0.0
        self.dropped = 0

    def track(
        self,
        event_type: str,
        user_id: str | None = None,
        properties: Mapping[str, Any] | None = None,
        timestamp: datetime | str | float | None = None,
        event_id: str | None = None,
    ) -> None:
        """Put an event into the buffer; the arguments are those of `track_event`.

        Raises `InvalidEvent`, and RuntimeError after `close`.
        """
        event = encode_event(event_type, user_id, properties, timestamp, event_id)
        if not self._put_at_once(event):
            self._put(event)

    def track_many(self, events: Iterable[Mapping[str, Any]]) -> int:
        """Put in all of these, waiting when the buffer is full, and `flush`; returns how many.

        Raises `InvalidEvent` that names the position; the events before it are sent all the same.
        """
        count = 0
        for count, fields in enumerate(events, start=1):
            self._put(_encode_fields(fields, count - 1))
        self.flush()
        return count

    def _put_at_once(self, event: bytes) -> bool:
        """Put it in, or drop it where that was chosen; False when it has to wait for room."""
        with self._lock:
            if self._has_room():
                self._append(event)
                return True
            if self._when_full != "drop":
                return False
            self.dropped += 1
        if self._on_drop is not None:
            self._on_drop(1)
        return True

    def _put(self, event: bytes) -> None:
        with self._lock:
            self._wait_until(self._has_room)
            self._append(event)

    def _has_room(self) -> bool:
        if self._closed:
            raise RuntimeError("the tracker is closed; make another")
        return self._waiting() < self._capacity and self._bytes < self._capacity_bytes

    def _waiting(self) -> int:
        return len(self._events) + len(self._sending)

    def _append(self, event: bytes) -> None:
        if not self._is_started:
            self._start()
        size = len(event)
        self._events.append(event)
        self._bytes += size
        if self._waits_for and self._is_there(self._waits_for):
            self._waits_for = 0
            self._work.notify()

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until the broker has taken, or the spool holds, all that was put in before.

        Without `timeout_s` for as long as it takes. Raises `EventsNotAccepted`; the events are kept
        and sent on.
        """
        with self._lock:
            target = self._hurry()
            self._wait_until(lambda: self._is_settled(target), timeout_s)
            self._check_out(target)

    def _hurry(self) -> int:
        """Have all that is in the buffer sent now; returns what `_out` will then be."""
        with self._lock:
            out, waiting = -1, 0
            while out != self._out:  # a signal handler has waited until some were sent
                out, waiting = self._out, self._waiting()
            self._flush_up_to = max(self._flush_up_to, out + waiting)
            self._work.notify()
            return out + waiting

    def _is_settled(self, target: int) -> bool:
        """Whether so many are out, or nobody is there who might send them."""
        is_hopeful = self._is_started and not self._closed
        return self._out >= target or not (is_hopeful or self._is_sent_elsewhere())

    def _is_sent_elsewhere(self) -> bool:
        return self._seat.locked() and self._sending_thread != threading.get_ident()

    def _wait_until(self, condition: Callable[[], bool], timeout_s: float | None = None) -> None:
        until_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not condition() and (left_s := until_s - time.monotonic()) > 0:
            self._work.notify()  # which whom a signal handler has interrupted may be yet to do
            self._progress.wait(min(left_s, _PAUSE_S))

    def _check_out(self, target: int) -> None:
        with self._lock:
            if self._out < target:
                raise EventsNotAccepted(self._waiting())

    def close(self, timeout_s: float = 30) -> None:
        """Send what is in the buffer and end the thread. May be repeated.

        Raises `EventsNotAccepted` when the broker has not taken everything in time: these events
        are lost unless a later `close` succeeds.
        """
        with self._lock:
            self._closed = True
            self._give_up_at_s = time.monotonic() + timeout_s
            self._work.notify()
            self._tell_progress()
            # Else the thread does it, or an earlier close has given up.
            does_it = bool(self._sender or self._events) and self._seat.acquire(blocking=False)
        if does_it:
            self._send_all()
        with self._lock:
            self._wait_until(lambda: not self._is_sent_elsewhere(), timeout_s + TRY_S)
            self._check_out(self._out + self._waiting())

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the thread --

    def _start(self) -> None:
        self._open_sender()  # so that whoever tracks is told what is wrong with the settings
        threading.Thread(target=self._run, name="analytics-tracker", daemon=True).start()
        self._is_started = True
        _close_with_child()

    def _open_sender(self) -> Sender:
        """Kept, as it knows under which number that was tried which a close has given up."""
        with _no_fork:
            self._sender = sender = self._sender or Sender(self._spool_dir, self._spool_bytes)
        return sender

    def _run(self) -> None:
        """One thread too many, which a signal handler may have started, ends at once."""
        if self._seat.acquire(blocking=False):
            self._send_all()

    def _send_all(self) -> None:
        """Send until the tracker is closed, and all is out or the time is up."""
        self._sending_thread = threading.get_ident()
        is_away = False
        try:
            sender = self._open_sender()
            while not self._may_end(sender):
                message = self._next_message(sender.due_in_s())
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
                    with self._lock:
                        self._work.wait(_PAUSE_S)
                else:
                    is_away = False
                    self._leave(message)
            with self._lock:
                if not self._waiting():
                    sender.close()
                    self._sender = None
        finally:
            with self._lock:
                self._is_started = False
                self._seat.release()
                self._tell_progress()

    def _may_end(self, sender: Sender) -> bool:
        with self._lock:
            if not self._closed:
                return False
            may_send = self._waiting() or sender.due_in_s() == 0
            return not may_send or time.monotonic() >= self._give_up_at_s

    def _next_message(self, wait_s: float | None) -> list[bytes]:
        """Wait for a message's worth of events, or until the first has waited for long enough.

        Empty when there was no event for `wait_s`, or the tracker is closed.
        """
        with self._lock:
            if not self._sending:
                self._wait_for(1, wait_s)
                if self._events:
                    self._wait_for(self._max_events, self._max_age_s)
                size = 0
                message = self._sending = []
                while self._events and len(message) < self._max_events and size < self._max_bytes:
                    message.append(self._events.popleft())
                    size += len(message[-1])
            return self._sending

    def _wait_for(self, events: int, timeout_s: float | None) -> None:
        self._waits_for = events
        self._work.wait_for(
            lambda: self._closed or self._flush_up_to > self._out or self._is_there(events),
            timeout_s,
        )
        self._waits_for = 0

    def _is_there(self, events: int) -> bool:
        """Whether so many events wait, or as many bytes as a message has."""
        return len(self._events) >= events or self._bytes >= self._max_bytes

    def _leave(self, message: list[bytes]) -> None:
        with self._lock:
            self._sending = []
            self._out += len(message)
            self._bytes -= sum(map(len, message))
            self._tell_progress()

    def _tell_progress(self) -> None:
        self._progress.notify_all()
        callbacks, self._callbacks = self._callbacks, {}
        for call in callbacks:
            call()


def _encode_fields(fields: object, position: int) -> bytes:
    try:
        if isinstance(fields, dict) and fields.keys() <= _FIELDS and "event_type" in fields:
            return encode_event(**fields)
        return encode_event(**Event.from_dict(fields, now=datetime.now(UTC)).to_dict())
    except InvalidEvent as error:
        raise InvalidEvent(
            f"events[{position}].{error.field}", error.value, error.reason
        ) from error


_FIELDS = frozenset(FIELDS)
_trackers: weakref.WeakSet[Tracker] = weakref.WeakSet()


def _close_all(**_: Any) -> None:
    for tracker in list(_trackers):
        try:
            tracker.close(_AT_EXIT_S)
        except EventsNotAccepted as error:
            logger.critical("the program ends: %s", error)


def _begin_all() -> None:
    _no_fork.release()
    for tracker in list(_trackers):
        tracker._begin()


def _close_with_child() -> None:
    """A child of multiprocessing ends without `atexit`, but with this."""
    if multiprocessing.parent_process() is not None:
        Finalize(None, _close_all, exitpriority=0)


atexit.register(_close_all)
signals.worker_process_shutdown.connect(_close_all)  # the same for Celery's
# A child would for ever wait for the locks that threads hold at the fork, such as of an import.
_no_fork = threading.RLock()
os.register_at_fork(
    before=_no_fork.acquire, after_in_parent=_no_fork.release, after_in_child=_begin_all
)
