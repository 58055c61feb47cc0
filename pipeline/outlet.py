"""The way out of a `Tracker`: one message after the other, each under its number until it is taken.

While the broker is away messages may go to a spool on disk. Their order is that of their numbers,
so as long as a message waits there every later one waits behind it.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import msgspec
from celery import current_app
from kombu.exceptions import OperationalError

from pipeline import producer
from pipeline.deliveries import TAG_PREFIX
from pipeline.publisher import Publisher
from pipeline.spool import Spool

_PAUSE_S = 1.0
"""Between two tries to send what waits on disk."""

logger = logging.getLogger(__name__)


class Outlet:
    """Sends the messages of one thread."""

    def __init__(self, spool_dir: Path | None, spool_bytes: int) -> None:
        """Finds the spools of processes that died; they are sent first.

        Raises `ConfigurationError` when there is no address to send to.
        """
        producer.check_address()
        self._spool_dir, self._spool_bytes = spool_dir, spool_bytes
        self._left_over = list(Spool.left_over(spool_dir)) if spool_dir else []
        self._spool: Spool | None = None
        self._producer_id, self._last_number = secrets.token_hex(8), 0
        self._publishers: dict[str, Publisher] = {}
        self._try_again_at_s = 0.0
        self._numbered: tuple[int, str] | None = None  # of the message that `send` is tried with

    @property
    def has_spooled(self) -> bool:
        """Whether messages wait on disk."""
        return bool(self._left_over) or self._spool is not None

    def send(self, events: Sequence[bytes], timeout_s: float) -> None:
        """Send `track_events` with these, or put the message into the spool.

        Raises kombu's OperationalError when neither could be done. To be called with the same
        events until it succeeds: they then count once.
        """
        if self._numbered is None:
            self._last_number += 1
            self._numbered = self._last_number, str(uuid4())
        number, task_id = self._numbered
        if self.send_spooled(timeout_s):
            try:
                self._publish(self._producer_id, number, task_id, events, timeout_s)
            except OperationalError as error:
                if not self._has_room():
                    raise
                self._note(error)
            else:
                self._numbered = None
                return
        elif not self._has_room():
            raise OperationalError("the broker is away, and the spool is full")
        assert self._spool_dir is not None
        self._spool = self._spool or Spool.of(self._spool_dir, self._producer_id)
        self._spool.append(number, task_id, events)
        self._numbered = None

    def send_spooled(self, timeout_s: float) -> bool:
        """Send what waits on disk, unless it was tried a moment ago; returns whether none is
        left."""
        if self.has_spooled and time.monotonic() >= self._try_again_at_s:
            try:
                self._send_all_spools(timeout_s)
            except OperationalError as error:
                self._note(error)
        return not self.has_spooled

    def _note(self, error: OperationalError) -> None:
        if time.monotonic() > self._try_again_at_s + _PAUSE_S:  # the first in a while
            logger.warning("events go to the spool until they can be sent: %s", error)
        self._try_again_at_s = time.monotonic() + _PAUSE_S

    def _has_room(self) -> bool:
        if self._spool_dir is None:
            return False
        return self._spool is None or self._spool.size < self._spool_bytes

    def _send_all_spools(self, timeout_s: float) -> None:
        while self._left_over:
            self._send_all(self._left_over[0], timeout_s)
            self._left_over.pop(0)
        if self._spool is not None:
            self._send_all(self._spool, timeout_s)
            self._spool = None

    def _send_all(self, spool: Spool, timeout_s: float) -> None:
        for entry in spool.waiting():
            events = [bytes(event) for event in entry.events]
            self._publish(spool.producer_id, entry.number, entry.task_id, events, timeout_s)
            spool.mark_sent(entry)
        spool.delete()

    def _publish(
        self,
        producer_id: str,
        number: int,
        task_id: str,
        events: Sequence[bytes],
        timeout_s: float,
    ) -> None:
        eager = current_app.conf.task_always_eager
        if eager or not producer.publishes_itself():
            # Celery's own way, where the task id is what keeps a repeat from counting twice.
            args = ([msgspec.json.decode(event) for event in events],)
            if eager:
                producer.track_events.apply(args, task_id=task_id, throw=True)
            else:
                producer.track_events.apply_async(args, task_id=task_id, retry=False)
            return
        publisher = self._publishers.get(producer_id)
        if publisher is None:
            publisher = self._publishers[producer_id] = producer.new_publisher(producer_id)
        envelope = producer.envelope(producer.TRACK_EVENTS, os.getpid())
        tag = publisher.tag(TAG_PREFIX, number)
        message = envelope.message_of_events(task_id, tag, events)
        publisher.send(message, len(events), timeout_s, number)

    def close(self) -> None:
        """Let go of the files; what waits in them is sent by the next tracker."""
        for spool in [*self._left_over, *([self._spool] if self._spool else [])]:
            spool.close()
