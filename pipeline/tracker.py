"""`Tracker`: events of hot paths, gathered in memory and sent by a background thread.

`track()` costs a few microseconds and no round trip. What it returns from is in a buffer of this
process, not yet accepted: `flush()` waits until the broker has taken everything, and so do `close`,
the end of a `with` block and the end of the program. Each message has its number and is sent under
it until it is taken, so however often that takes, its events are counted once.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from kombu.exceptions import OperationalError

from pipeline.errors import EventsNotAccepted, InvalidEvent
from pipeline.events import (
    FIELDS,
    MAX_EVENTS_PER_MESSAGE,
    MAX_MESSAGE_BYTES,
    Event,
    encode_event,
)
from pipeline.outlet import Outlet

WhenFull = Literal["block", "drop", "spool"]
_TRY_S = 1.0
"""How long one try to send lasts, before the thread looks whether it is to end."""
_PAUSE_S = 0.1
_LOOK_AT_SPOOL_S = 1.0
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
        if capacity < max_events or capacity_bytes < max_bytes:
            raise ValueError("the buffer must hold a message: raise capacity or capacity_bytes")
        if when_full not in ("block", "drop", "spool"):
            raise ValueError(f'when_full={when_full!r}: give "block", "drop" or "spool"')
        if (when_full == "spool") != (spool_dir is not None):
            raise ValueError('spool_dir goes with when_full="spool", and is needed there')
        self._max_events, self._max_bytes, self._max_age_s = max_events, max_bytes, max_age_s
        self._capacity, self._capacity_bytes = capacity, capacity_bytes
        self._when_full, self._on_drop = when_full, on_drop
        self._spool_dir = Path(spool_dir) if spool_dir is not None else None
        self._spool_bytes = spool_bytes
        self._begin()
        _trackers.add(self)

    def _begin(self) -> None:
        """An empty buffer, also in a forked child."""
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._progress = threading.Condition(self._lock)
        self._open: list[bytes] = []  # the message that is being filled
        self._sealed: deque[list[bytes]] = deque()
        self._open_bytes = self._bytes = 0  # of the open message, of all that is in the buffer
        self._in = 0  # events taken into the buffer, ever
        self._out = 0  # events that left it: accepted, or written to the spool
        self._flush_up_to = 0
        self._thread: threading.Thread | None = None
        self._closed = False
        self._give_up_at_s: float | None = None
        self.dropped = 0

    # -- putting in --

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
        self._put(encode_event(event_type, user_id, properties, timestamp, event_id))

    def track_many(self, events: Iterable[Mapping[str, Any]]) -> int:
        """Put in all of these, waiting when the buffer is full, and `flush`; returns how many.

        Raises `InvalidEvent` that names the position; the events before it are sent all the same.
        """
        count = 0
        for count, fields in enumerate(events, start=1):
            self._put(_encode_fields(fields, count - 1), may_drop=False)
        self.flush()
        return count

    def _put(self, event: bytes, *, may_drop: bool = True) -> None:
        with self._lock:
            if self._has_room() or self._wait_for_room(may_drop):
                self._append(event)
                return
            self.dropped += 1
        if self._on_drop is not None:
            self._on_drop(1)

    def _put_at_once(self, event: bytes) -> bool:
        """Put it in if that takes no waiting and no decision; returns whether it did."""
        with self._lock:
            has_room = self._has_room()
            if has_room:
                self._append(event)
            return has_room

    def _has_room(self) -> bool:
        return (
            self._in - self._out < self._capacity
            and self._bytes < self._capacity_bytes
            and not self._closed
        )

    def _append(self, event: bytes) -> None:
        if not self._open:  # the thread waits for the first event, then for its age
            if self._thread is None:
                self._start()
            self._work.notify()
        self._open.append(event)
        self._open_bytes += len(event)
        self._bytes += len(event)
        self._in += 1
        if len(self._open) >= self._max_events or self._open_bytes >= self._max_bytes:
            self._seal()

    def _seal(self) -> None:
        self._sealed.append(self._open)
        self._open, self._open_bytes = [], 0
        self._work.notify()

    def _wait_for_room(self, may_drop: bool) -> bool:
        """Wait until the event may go in; False when it is to be dropped instead."""
        while True:
            if self._closed:
                raise RuntimeError("the tracker is closed; make another")
            if self._has_room():
                return True
            if may_drop and self._when_full == "drop":
                return False
            self._progress.wait()

    # -- getting out --

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until the broker has taken, or the spool holds, all that was put in before.

        Without `timeout_s` for as long as it takes. Raises `EventsNotAccepted`; the events are kept
        and sent on.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            target = self._flush_up_to = self._in
            self._work.notify()
            while self._out < target:
                left_s = None if deadline is None else deadline - time.monotonic()
                if self._thread is None or (left_s is not None and left_s <= 0):
                    raise EventsNotAccepted(self._in - self._out)
                self._progress.wait(left_s)

    def close(self, timeout_s: float = 30) -> None:
        """Send what is in the buffer and end the thread. May be repeated.

        Raises `EventsNotAccepted` when the broker has not taken everything in time: these events
        are lost unless a later `close` succeeds.
        """
        with self._lock:
            self._closed = True
            self._give_up_at_s = time.monotonic() + timeout_s
            self._work.notify()
            self._progress.notify_all()
            thread = self._thread
            if thread is None and self._out < self._in:  # an earlier close has given up
                thread = self._start()
        if thread is not None:
            thread.join()
        with self._lock:
            if self._out < self._in:
                raise EventsNotAccepted(self._in - self._out)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- the thread --

    def _start(self) -> threading.Thread:
        # Made here, so that whoever tracks is told what is wrong with the settings.
        outlet = Outlet(self._spool_dir, self._spool_bytes)
        self._thread = threading.Thread(
            target=self._run, args=(outlet,), name="analytics-tracker", daemon=True
        )
        self._thread.start()
        return self._thread

    def _run(self, outlet: Outlet) -> None:
        try:
            while True:
                batch = self._next_batch(outlet.has_spooled)
                if batch and not self._deliver(outlet, batch):
                    break
                if not batch:
                    outlet.send_spooled(_TRY_S)
                    if self._closed:
                        break
        finally:
            outlet.close()
            with self._lock:
                self._thread = None
                self._progress.notify_all()

    def _next_batch(self, is_spooling: bool) -> list[bytes]:
        """Wait for a message's worth of events, or until the oldest is old enough.

        Empty when the tracker is closed, or when it is time to look after the spool.
        """
        with self._lock:
            if not self._open and not self._sealed and not self._closed:
                self._work.wait(_LOOK_AT_SPOOL_S if is_spooling else None)
            due_s = time.monotonic() + self._max_age_s
            while not self._sealed and self._open:
                left_s = due_s - time.monotonic()
                if left_s <= 0 or self._closed or self._flush_up_to > self._out:
                    self._seal()
                else:
                    self._work.wait(left_s)
            return self._sealed.popleft() if self._sealed else []

    def _deliver(self, outlet: Outlet, batch: list[bytes]) -> bool:
        """Try until the message is taken; False when the tracker is closed and its time is up."""
        warned = False
        while True:
            try:
                outlet.send(batch, _TRY_S)
            except Exception as error:
                if not warned:
                    expected = isinstance(error, OperationalError)
                    logger.warning(
                        "events wait in memory until they can be sent: %s",
                        error,
                        exc_info=not expected,
                    )
                warned = True
                with self._lock:
                    self._work.wait(_PAUSE_S)
                    give_up_at_s = self._give_up_at_s
                    if give_up_at_s is not None and time.monotonic() >= give_up_at_s:
                        self._sealed.appendleft(batch)
                        return False
            else:
                with self._lock:
                    self._out += len(batch)
                    self._bytes -= sum(map(len, batch))
                    self._progress.notify_all()
                return True


class AsyncTracker:
    """The same for asyncio: whatever may take time is awaited. Options as for `Tracker`."""

    def __init__(self, **options: Any) -> None:
        """Starts nothing yet. Raises ValueError."""
        self._tracker = Tracker(**options)

    @property
    def dropped(self) -> int:
        """How many events were dropped because the buffer was full."""
        return self._tracker.dropped

    async def track(
        self,
        event_type: str,
        user_id: str | None = None,
        properties: Mapping[str, Any] | None = None,
        timestamp: datetime | str | float | None = None,
        event_id: str | None = None,
    ) -> None:
        """Put an event into the buffer, as `Tracker.track`."""
        event = encode_event(event_type, user_id, properties, timestamp, event_id)
        if not self._tracker._put_at_once(event):
            await asyncio.to_thread(self._tracker._put, event)

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait until all that was put in before is accepted, as `Tracker.flush`."""
        await asyncio.to_thread(self._tracker.flush, timeout_s)

    async def close(self, timeout_s: float = 30) -> None:
        """Send what is in the buffer and end, as `Tracker.close`."""
        await asyncio.to_thread(self._tracker.close, timeout_s)

    async def __aenter__(self) -> AsyncTracker:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


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


def _close_all() -> None:
    for tracker in list(_trackers):
        try:
            tracker.close(_AT_EXIT_S)
        except EventsNotAccepted as error:
            logger.critical("the program ends: %s", error)


def _begin_all() -> None:
    for tracker in list(_trackers):
        tracker._begin()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_begin_all)
