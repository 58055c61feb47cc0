"""`Buffer`: events in memory, between the threads that track them and the one that sends them."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.contract import MAX_EVENTS_PER_MESSAGE, MAX_MESSAGE_BYTES
from pipeline.errors import EventsNotAccepted

_WAKE_S = 0.1
"""After so long a waiting thread checks its condition: see `Buffer`."""


@dataclass(frozen=True)
class Limits:
    """What bounds a message, and what the buffer: see `Tracker`. Raises ValueError."""

    max_events: int = 500
    max_bytes: int = 512 * 1024
    max_age_s: float = 0.2
    capacity: int = 100_000
    capacity_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        if not 1 <= self.max_events <= MAX_EVENTS_PER_MESSAGE:
            raise ValueError(f"max_events={self.max_events}: give 1 to {MAX_EVENTS_PER_MESSAGE}")
        if not 1 <= self.max_bytes <= MAX_MESSAGE_BYTES // 2:
            raise ValueError(f"max_bytes={self.max_bytes}: give 1 to {MAX_MESSAGE_BYTES // 2}")
        if not 0 <= self.max_age_s < math.inf:
            raise ValueError(f"max_age_s={self.max_age_s}: give seconds, 0 or more")
        if self.capacity < self.max_events:
            raise ValueError(f"capacity={self.capacity}: give max_events={self.max_events} or more")
        if self.capacity_bytes < self.max_bytes:
            raise ValueError(
                f"capacity_bytes={self.capacity_bytes}: give max_bytes={self.max_bytes} or more"
            )


class Buffer:
    """A bounded buffer of events. Safe to share between threads, one of which takes messages out.

    A signal handler may interrupt its own thread anywhere in here, and use the buffer. So the lock
    can be taken twice, a waiting thread releases it and checks its condition again now and then,
    and what counts is one step: an event that is in `_events` is in the buffer.
    """

    def __init__(
        self,
        limits: Limits,
        drops: bool = False,
        on_drop: Callable[[int], None] | None = None,
    ) -> None:
        """`drops`: what finds no room is dropped, and `on_drop` is called with the number of
        events."""
        self.make_locks()
        self.has_sender = False
        """Whether a thread takes messages out."""
        self.is_closed = False
        self.dropped = 0
        self.removed = 0
        """Events that left the buffer, ever: accepted, or written to the spool."""
        self.wakes: dict[Callable[[], None], None] = {}
        """Called at the next progress."""
        self._limits = limits
        self._drops, self._on_drop = drops, on_drop
        self._events: deque[bytes] = deque()
        self._message: list[bytes] = []  # the oldest events, which are being sent
        self._bytes = 0  # of both
        self._hurry_up_to = 0  # how many events are to leave without waiting for others
        self._wake_at = 0  # how many events wake the thread

    def make_locks(self) -> None:
        """Make the locks, or make them anew while no thread uses the buffer."""
        self._locks_are_of = threading.Lock
        self.lock = threading.RLock()
        self.progress = threading.Condition(self.lock)
        """Events have left the buffer, or it was closed."""
        self._work = threading.Condition(self.lock)  # for the thread that takes messages out

    def has_old_locks(self) -> bool:
        """Whether gevent or eventlet has replaced what `threading` has since the locks were made:
        a thread of theirs that waits for one stops all others."""
        return self._locks_are_of is not threading.Lock

    def put_at_once(self, event: bytes) -> bool:
        """Put it in, or drop it where that was chosen; False when it has to wait for room, or for a
        thread that takes messages out.

        Raises RuntimeError after `close`, while there is such a thread.
        """
        with self.lock:
            if self.has_sender and self._has_room():
                self._append(event)
                return True
            if not (self._drops and self.has_sender):
                return False
            self.dropped += 1
        if self._on_drop is not None:
            self._on_drop(1)
        return True

    def put(self, event: bytes) -> None:
        """Wait for room and put it in. Raises RuntimeError after `close`."""
        with self.lock:
            self.wait_until(self._has_room)
            self._append(event)

    def put_late(self, event: bytes) -> None:
        """Put it into the closed buffer."""
        with self.lock:
            self._append(event)

    def check_open(self) -> None:
        """Raises RuntimeError after `close`."""
        if self.is_closed:
            raise RuntimeError("the tracker is closed; make another")

    def waiting(self) -> int:
        """How many events are in the buffer."""
        return len(self._events) + len(self._message)

    def hurry(self) -> int:
        """Have all that is in the buffer sent now; returns what `removed` will then be."""
        with self.lock:
            removed, waiting = -1, 0
            while removed != self.removed:  # a signal handler has waited until some were sent
                removed, waiting = self.removed, self.waiting()
            self._hurry_up_to = max(self._hurry_up_to, removed + waiting)
            self._work.notify()
            return removed + waiting

    def close(self) -> None:
        """Take no more events, and have those that are in sent now."""
        with self.lock:
            self.is_closed = True
            self._work.notify()
            self.notify_progress()

    def check_removed(self, target: int) -> None:
        """Raises `EventsNotAccepted` when `removed` has not reached `target`."""
        with self.lock:
            if self.removed < target:
                raise EventsNotAccepted(self.waiting())

    # -- waiting for progress --

    def wait_until(self, condition: Callable[[], bool], timeout_s: float | None = None) -> None:
        """Wait until it holds, or for so long. The lock must be held."""
        until_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not condition() and (left_s := until_s - time.monotonic()) > 0:
            self._work.notify()  # the thread that a signal handler interrupted may not have done so
            self.progress.wait(min(left_s, _WAKE_S))

    def holds_or_wakes(self, condition: Callable[[], bool], wake: Callable[[], None]) -> bool:
        """Whether the condition holds; if it does not, `wake` is called at the next progress."""
        with self.lock:
            if condition():
                return True
            self.wakes[wake] = None
            return False

    def notify_progress(self) -> None:
        """Wake all that wait for progress. The lock must be held."""
        self.progress.notify_all()
        wakes, self.wakes = self.wakes, {}
        for wake in wakes:
            wake()

    # -- for the thread that takes messages out --

    def next_message(self, wait_s: float | None) -> list[bytes]:
        """Wait for a message's worth of events, or until the first has waited for long enough.

        Returns the same events until they are removed. Empty when there was no event for `wait_s`,
        or the buffer is closed.
        """
        limits = self._limits
        with self.lock:
            if not self._message:
                self._wait_for(1, wait_s)
                if self._events:
                    self._wait_for(limits.max_events, limits.max_age_s)
                size = 0
                message = self._message = []
                while self._events and len(message) < limits.max_events and size < limits.max_bytes:
                    message.append(self._events.popleft())
                    size += len(message[-1])
            return self._message

    def remove(self, message: list[bytes]) -> None:
        """Remove the events of `next_message`, which were sent."""
        with self.lock:
            self._message = []
            self.removed += len(message)
            self._bytes -= sum(map(len, message))
            self.notify_progress()

    def pause(self, seconds: float) -> None:
        """Wait so long, or until there is something new to do."""
        with self.lock:
            self._work.wait(seconds)

    def _has_room(self) -> bool:
        self.check_open()
        return self.waiting() < self._limits.capacity and self._bytes < self._limits.capacity_bytes

    def _append(self, event: bytes) -> None:
        self._events.append(event)
        self._bytes += len(event)
        if self._wake_at and self._fills_message(self._wake_at):
            self._wake_at = 0
            self._work.notify()

    def _wait_for(self, events: int, timeout_s: float | None) -> None:
        self._wake_at = events
        self._work.wait_for(
            lambda: (
                self.is_closed or self._hurry_up_to > self.removed or self._fills_message(events)
            ),
            timeout_s,
        )
        self._wake_at = 0

    def _fills_message(self, events: int) -> bool:
        """Whether so many events wait, or as many bytes as a message has."""
        return len(self._events) >= events or self._bytes >= self._limits.max_bytes
