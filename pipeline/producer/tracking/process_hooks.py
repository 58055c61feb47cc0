"""What a process does for its trackers: closes them at its end, and empties them in a forked child.

The end comes by `atexit`, by Celery's signal in its pool processes, or by multiprocessing's own
list in its children.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import threading
import weakref
from multiprocessing.util import Finalize
from typing import Any, Protocol

from celery import signals

from pipeline.errors import EventsNotAccepted

_AT_EXIT_S = 10.0

logger = logging.getLogger(__name__)


class Hooked(Protocol):
    """What is closed at the end of a process, and begins anew in a forked child."""

    def close(self, timeout_s: float) -> None:
        """Send what is left. Raises `EventsNotAccepted`."""

    def begin_in_child(self) -> None:
        """Forget threads and events, which are the parent's."""


no_fork = threading.RLock()
"""Held where other locks are taken that a fork must not find taken, such as those of imports: a
child would wait for them for ever."""
_hooked: weakref.WeakSet[Hooked] = weakref.WeakSet()


def add(hooked: Hooked) -> None:
    """Have it closed with the process, and begun anew in forked children, as long as it lives."""
    _hooked.add(hooked)


def close_with_child() -> None:
    """Have all closed at the end of this process if it is a child of multiprocessing, which ends
    without `atexit`."""
    if multiprocessing.parent_process() is not None:
        Finalize(None, _close_all, exitpriority=0)


def _close_all(**_: Any) -> None:
    for hooked in list(_hooked):
        try:
            hooked.close(_AT_EXIT_S)
        except EventsNotAccepted as error:
            logger.critical("the program ends: %s", error)


def _begin_all() -> None:
    no_fork.release()
    for hooked in list(_hooked):
        hooked.begin_in_child()


atexit.register(_close_all)
signals.worker_process_shutdown.connect(_close_all)
os.register_at_fork(
    before=no_fork.acquire, after_in_parent=no_fork.release, after_in_child=_begin_all
)
