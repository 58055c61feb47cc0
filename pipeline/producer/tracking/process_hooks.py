"""What a process does for its trackers: closes them at its end, and empties them in a forked child.

The end comes by `atexit`, by Celery's signal in its pool processes, by multiprocessing's own list
in its children, or by a signal.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import threading
import time
import weakref
from multiprocessing.util import Finalize
from typing import Any, Protocol

from celery import signals

from pipeline.errors import EventsNotAccepted
from pipeline.producer.tracking import uwsgi_hooks
from pipeline.producer.tracking.ending_signals import Endings
from pipeline.system.forks import at_fork

_AT_EXIT_S = 10.0

logger = logging.getLogger(__name__)


class Hooked(Protocol):
    """What is closed at the end of a process, and begins anew in a forked child."""

    def close_at_end(self, timeout_s: float) -> None:
        """Send what is left. Raises `EventsNotAccepted`."""

    def flush(self, timeout_s: float) -> None:
        """Send what was put in before. Raises `EventsNotAccepted`."""

    def begin_in_child(self) -> None:
        """Forget threads and events, which are the parent's."""


no_fork = threading.RLock()
"""Held where other locks are taken that a fork must not find taken, such as those of imports: a
child would wait for them for ever."""
_hooked: weakref.WeakSet[Hooked] = weakref.WeakSet()


def add(hooked: Hooked) -> None:
    """Have it closed with the process, and begun anew in forked children, as long as it lives."""
    _hooked.add(hooked)
    _endings.watch()


def close_with_process() -> None:
    """Have all closed however this process ends; called when there is something to send.

    A child of multiprocessing ends without `atexit`.
    """
    uwsgi_hooks.warn_of_what_is_not_sent()
    uwsgi_hooks.call_after_fork(_begin_all)
    _endings.watch(warns=True)
    if multiprocessing.parent_process() is not None:
        Finalize(None, _close_all, exitpriority=0)


def _close_all(**_: Any) -> None:
    for hooked in list(_hooked):
        try:
            hooked.close_at_end(_AT_EXIT_S)
        except EventsNotAccepted as error:
            logger.critical("the program ends: %s", error)


def _flush_all() -> None:
    until_s = time.monotonic() + _AT_EXIT_S
    for hooked in list(_hooked):
        try:
            hooked.flush(max(0.0, until_s - time.monotonic()))
        except EventsNotAccepted as error:
            logger.warning("the server ends: %s", error)


def _before_fork() -> None:
    no_fork.acquire()


def _after_fork() -> None:
    no_fork.release()


def _begin_all() -> None:
    # Made anew, since a server written in C may have forked without taking it.
    global no_fork  # noqa: PLW0603
    no_fork = threading.RLock()
    for hooked in list(_hooked):
        hooked.begin_in_child()


_endings = Endings(_close_all, _flush_all)
_endings.watch()
atexit.register(_close_all)
signals.worker_process_shutdown.connect(_close_all)
at_fork(
    before=_before_fork,
    after_in_parent=_after_fork,
    after_in_child=_begin_all,
)
