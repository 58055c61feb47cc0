"""An event worker that is told to stop ends in time, also when a server does not answer it.

Celery waits for what its main thread is doing, and a Redis that hangs lets that wait for as long as
the socket timeouts add up to: more than a minute. Nothing that an event worker holds is worth it:
Redis has all of it, and counts a batch whole or not at all.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

from celery import concurrency, signals
from celery.concurrency.solo import TaskPool

ENDS_WITHIN_S = 5.0

logger = logging.getLogger(__name__)


def end_in_time(worker: Any) -> None:
    """End this process at most `ENDS_WITHIN_S` after SIGTERM, if it counts events in one thread.

    What it holds then returns after the visibility timeout, where a warm end gives it back at once.
    """
    if is_solo(worker):
        told = threading.Event()
        signals.worker_shutting_down.connect(lambda **_: told.set(), weak=False)
        threading.Thread(target=_end_after, args=(told,), daemon=True).start()


def is_solo(worker: Any) -> bool:
    """Whether a worker runs its tasks in its own thread."""
    return concurrency.get_implementation(worker.pool_cls) is TaskPool


def _end_after(told: threading.Event) -> None:
    told.wait()
    time.sleep(ENDS_WITHIN_S)
    logger.warning("a server does not answer: what is held returns after the visibility timeout")
    logging.shutdown()
    os._exit(os.EX_OK)
