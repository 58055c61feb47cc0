"""A flush worker looks once a minute for workers of other applications that would discard events,
for the verdict on the pipeline."""

from __future__ import annotations

import logging
from threading import Thread
from typing import Any

from pipeline.upkeep.condition.discarding import note_discarding, was_looked_for
from tasks.app import app, counters
from tasks.worker.default_queue import find_discarding_workers, read_broker_options

_WORKERS_ANSWER_WITHIN_S = 2.0

logger = logging.getLogger(__name__)


class Lookout:
    """Looks for such workers, each time in a thread, and notes in Redis what it found."""

    def __init__(self) -> None:
        self._thread: Thread | None = None

    def look(self) -> None:
        """Begin to look, unless a thread is at it still."""
        if self._thread is None or not self._thread.is_alive():
            options = read_broker_options(app)
            self._thread = Thread(target=_look, args=(options,), name="lookout", daemon=True)
            self._thread.start()


def _look(broker_options: dict[str, Any]) -> None:
    client, keys = counters().client, counters().keys
    try:
        if not was_looked_for(client, keys):
            found = find_discarding_workers(broker_options, _WORKERS_ANSWER_WITHIN_S)
            note_discarding(client, keys, found)
    except Exception as error:  # to look for them is not worth a traceback
        logger.debug("workers of other applications could not be searched for: %s", error)
