"""A signal handler runs between any two lines of its thread, and may use the tracker there."""

from __future__ import annotations

import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import pytest
import redis

from pipeline import Tracker
from pipeline.errors import EventsNotAccepted
from pipeline.producer.tracking import background_sender, buffer, tracker
from tests.helpers.support import QUEUE
from tests.helpers.tracking import users, users_sent

pytestmark = pytest.mark.usefixtures("sending")
_WATCHED = {module.__file__ for module in (tracker, buffer, background_sender, threading)}


class Interruption:
    """Calls `act` before the nth line that this thread runs of a tracker or of `threading`."""

    def __init__(self, nth: int, act: Callable[[], object]) -> None:
        self._left, self._act = nth, act
        self.has_come = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        # Where one thread waits CPython calls no handler within `notify`.
        watched = frame.f_code.co_filename in _WATCHED and frame.f_code.co_name != "notify"
        return self._line if watched else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line" and not self.has_come:
            self._left -= 1
            if not self._left:
                self.has_come = True
                self._act()
        return self._line


@pytest.mark.parametrize("inside", ["track", "flush", "close"])
def test_a_handler_may_come_before_any_line(client: redis.Redis, inside: str) -> None:
    nth, comes = 0, True
    while comes:
        nth += 1
        tracker = Tracker(max_events=1, capacity=1, max_age_s=0)
        promised: Counter[str] = Counter()

        def track(name: str, tracker: Tracker = tracker, into: Counter[str] = promised) -> None:
            with suppress(RuntimeError):  # closed
                tracker.track("page_view", name)
                into[name] += 1

        acts = {"track": lambda: track("h"), "flush": tracker.flush, "close": tracker.close}
        interruption = Interruption(nth, acts[inside])
        with interruption.watching():
            for name in "ab":
                track(name)
            with suppress(EventsNotAccepted):  # closed while the last was put in
                tracker.flush()
            track("c")
            with suppress(EventsNotAccepted):
                tracker.close()
        comes = interruption.has_come
        tracker.close()
        assert Counter(users_sent(client)) == promised, nth
        client.delete(QUEUE)
    assert nth > 100


def test_a_handler_tracks_while_a_real_signal_comes_at_any_time(client: redis.Redis) -> None:
    handled: list[str] = []

    def handle(*_: Any) -> None:
        handled.append(f"h{len(handled)}")
        tracker.track("page_view", handled[-1])

    before = signal.signal(signal.SIGVTALRM, handle)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0005, 0.0005)
    try:
        with Tracker(max_events=20, capacity=50, max_age_s=0) as tracker:
            for user in users(5_000):
                tracker.track("page_view", user)
            tracker.flush()
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert handled
    assert Counter(users_sent(client)) == Counter(users(5_000) + handled)
