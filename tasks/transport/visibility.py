"""Messages of tasks under way stay invisible to other workers for as long as this process lives.

kombu gives back what was fetched longer ago than the visibility timeout, whatever works on it: a
task that takes longer is delivered again, and again. So a thread says in time that the messages
were fetched just now. The thread ends with its process, however that ends, and a killed worker's
messages return after the timeout. Events of the batch consumer are none of its business: they take
milliseconds, and one that takes a minute is stuck.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import redis

from pipeline.redis.scripts import Script

_EXTEND = Script("tasks.transport.extend")
_TIMES_IN_A_TIMEOUT = 4
_AT_ONCE = 1_000

logger = logging.getLogger(__name__)


class Extender:
    """Extends the visibility timeout of what Celery has from one channel."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._is_over = threading.Event()

    def start(self) -> None:
        """Begin, in a thread: a task in this process's main thread would hold up a timer."""
        threading.Thread(target=self._extend_until_over, name="visibility", daemon=True).start()

    def stop(self) -> None:
        """End: the channel gives back what it holds."""
        self._is_over.set()

    def _extend_until_over(self) -> None:
        while not self._is_over.wait(self._channel.visibility_timeout / _TIMES_IN_A_TIMEOUT):
            try:
                self.extend()
            except (OSError, redis.RedisError) as error:
                logger.debug("messages under way may be delivered again: %s", error)

    def extend(self) -> None:
        """Say that what Celery has was fetched just now. What is no longer unacknowledged stays
        so. Raises redis.RedisError."""
        tags = self._channel.qos.list_delivered()
        for first in range(0, len(tags), _AT_ONCE):
            with self._channel.conn_or_acquire() as client:
                _EXTEND.run(
                    client,
                    keys=[self._channel.unacked_key, self._channel.unacked_index_key],
                    args=tags[first : first + _AT_ONCE],
                )
