"""What uWSGI does not say by Python's own means: that it has forked, that it runs no threads, and
that its master ends.

It forks in C, past `os.register_at_fork` unless started with `--py-call-osafterfork`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


def call_after_fork(begin: Callable[[], None]) -> None:
    """Have uWSGI, if it runs this process, call `begin` in forked children, after what it calls
    there already. May be repeated with the same function."""
    uwsgi = sys.modules.get("uwsgi")
    before = getattr(uwsgi, "post_fork_hook", None)
    if uwsgi is None or (isinstance(before, _Hook) and before.begin is begin):
        return
    uwsgi.post_fork_hook = _Hook(begin, before)  # type: ignore[attr-defined]


class _Hook:
    def __init__(self, begin: Callable[[], None], before: Callable[[], Any] | None) -> None:
        self.begin, self._before = begin, before

    def __call__(self) -> None:
        if self._before is not None:
            self._before()
        self.begin()


def warn_of_what_is_not_sent() -> None:
    """Log a warning where uWSGI runs this process without threads, or without an end for us."""
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None:
        return
    if not {"enable-threads", "threads"} & uwsgi.opt.keys():
        logger.warning(
            "uWSGI runs no threads, so trackers send only when their processes end: start it with "
            "--enable-threads"
        )
    if uwsgi.masterpid() == os.getpid():
        logger.warning(
            "the master of uWSGI ends without sending what trackers hold: call flush() after "
            "events that are tracked while the application is imported"
        )
