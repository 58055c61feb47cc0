"""Threads that compute for long, beside an event loop that must not wait for them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_USUAL_S = sys.getswitchinterval()
_QUICK_S = 0.0005
"""How long the event loop waits for a thread that computes, each time it has waited for anything
else: Python's 5 ms would be felt in each step of a request. For ever it would cost the collector a
tenth, whose events one thread publishes beside the loop."""

_lock = threading.Lock()
_computing: list[int] = []
"""The threads in such blocks."""


@contextmanager
def yielding_often() -> Iterator[None]:
    """Have the interpreter's threads take turns quickly while this, or another such block, runs."""
    thread = threading.get_ident()
    with _lock:
        _computing.append(thread)
        sys.setswitchinterval(_QUICK_S)
    try:
        yield
    finally:
        with _lock:
            _computing.remove(thread)
            if not _computing:
                sys.setswitchinterval(_USUAL_S)
