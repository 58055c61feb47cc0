"""Sending from one thread: one message after the other, each under its number until it is taken.

While the broker is away messages may go to a spool on disk. Their order is that of their numbers,
so as long as a message waits there every later one waits behind it.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec
from celery.app import app_or_default
from kombu.exceptions import OperationalError

from pipeline.contract import TRACK_EVENTS
from pipeline.days import UTC
from pipeline.errors import InvalidConfiguration
from pipeline.event.model import Event
from pipeline.producer.app import check_address, envelope, new_publisher
from pipeline.producer.celery_tasks import may_publish_by_script, track_events
from pipeline.producer.publisher import Publisher
from pipeline.system.private_files import check_shared_directory, make_private_directory

if TYPE_CHECKING:
    from pipeline.producer.spool import Spool

TRY_S = 1.0
"""How long to try a message before checking whether to end."""
_TRY_BEFORE_SPOOLING_S = 0.2
_REPLY_WITHIN_S = 2.0
"""A server that stands still must not delay the next events for long."""
_PAUSE_S = 1.0
"""Between two tries to send what waits on disk."""
_SLICE_S = 0.1
"""How long what waits on disk is sent before events are taken from the buffer again."""
_SPOOLS_AT_ONCE = 100
"""Each is an open file, of which a process may have a thousand."""

logger = logging.getLogger(__name__)


class Sender:
    """Sends the messages of one thread."""

    def __init__(self, spool_dir: Path | None, spool_bytes: int) -> None:
        """Open the spools that dead processes have left; they are sent first.

        Must be made in a thread of the application: its Celery app may differ from that of the
        sending thread. Raises `InvalidConfiguration` when there is no
        address to send to, or the directory cannot be written.
        """
        check_address()
        self._app = app_or_default()
        self._spool_dir, self._spool_bytes = spool_dir, spool_bytes
        self._spools = deque(_left_over(spool_dir)) if spool_dir else deque()
        self._own_spool: Spool | None = None  # the last of them
        self._producer_id, self._last_number = secrets.token_hex(8), 0
        self._numbered: tuple[int, str] | None = None  # of the message that `send` is tried with
        self._publisher: Publisher | None = None
        self._is_away = False
        self._try_again_at_s = 0.0
        self._prepare()

    def _prepare(self) -> None:
        """Import all that sending needs, and read Celery's options: see `process_hooks.no_fork`."""
        if not self._app.conf.task_always_eager and may_publish_by_script():
            envelope(TRACK_EVENTS, os.getpid())
            self._publisher_of(self._producer_id)

    def send(self, events: Sequence[bytes]) -> None:
        """Send `track_events` with these, or put the message into the spool.

        Raises the error of sending when neither can be done. Must be called with the same events
        until it succeeds: they then count once.
        """
        if self._numbered is None:
            self._last_number += 1
            self._numbered = self._last_number, str(uuid4())
        number, task_id = self._numbered
        has_room = self._has_room()
        if self.send_spooled(_SLICE_S if has_room else TRY_S):
            try:
                self._publish(self._producer_id, number, task_id, events)
            except Exception as error:
                if not has_room:
                    raise
                self._note(error)
                self._spool(number, task_id, events)
        elif has_room:
            self._spool(number, task_id, events)
        else:
            raise OperationalError(f"{self._spool_dir} holds all it may, and is not sent yet")
        self._numbered = None

    def send_once(self, events: Sequence[bytes]) -> None:
        """Send `track_events` with these, and give them up when that fails: the broker may have
        taken them, so they must not be sent with this sender again. Never spools."""
        self._last_number += 1
        self._publish(self._producer_id, self._last_number, str(uuid4()), events, retry=True)

    def send_spooled(self, for_s: float = _SLICE_S) -> bool:
        """Send what waits on disk, for so long; returns whether all of it was sent."""
        until_s = time.monotonic() + for_s
        while self.due_in_s() == 0 and time.monotonic() < until_s:
            try:
                self._send_first(self._spools[0])
            except Exception as error:
                self._note(error)
        return not self._spools

    def due_in_s(self) -> float | None:
        """Seconds until what waits on disk is tried again; None when nothing waits."""
        return max(0.0, self._try_again_at_s - time.monotonic()) if self._spools else None

    def close(self) -> None:
        """Close files and connection; the next tracker sends what waits on disk."""
        if self._spools:
            logger.warning("events wait in %s for the next tracker", self._spool_dir)
        for spool in self._spools:
            spool.close()
        self._spools.clear()
        if self._publisher is not None:
            self._publisher.close()

    def _has_room(self) -> bool:
        if self._spool_dir is None:
            return False
        return self._own_spool is None or self._own_spool.size < self._spool_bytes

    def _spool(self, number: int, task_id: str, events: Sequence[bytes]) -> None:
        if self._own_spool is None:
            assert self._spool_dir is not None
            self._own_spool = _spools().of(self._spool_dir, self._producer_id)
            self._spools.append(self._own_spool)
        self._own_spool.append(number, task_id, events)

    def _send_first(self, spool: Spool) -> None:
        first = spool.first()
        if first is not None:
            events = [bytes(event) for event in first.events]
            self._publish(spool.producer_id, first.number, first.task_id, events)
            spool.mark_sent(first)
            return
        spool.delete()
        self._spools.popleft()
        if spool is self._own_spool:
            self._own_spool = None
        else:
            self._spools.extendleft(spool.left_over(spool.path.parent, 1))

    def _note(self, error: Exception) -> None:
        if not self._is_away:
            expected = isinstance(error, OperationalError)
            text = "events go to %s until they can be sent: %s"
            logger.warning(text, self._spool_dir, error, exc_info=not expected)
        self._is_away = True
        self._try_again_at_s = time.monotonic() + _PAUSE_S

    def _publish(
        self,
        producer_id: str,
        number: int,
        task_id: str,
        events: Sequence[bytes],
        *,
        retry: bool = False,
    ) -> None:
        eager = self._app.conf.task_always_eager
        if eager or not may_publish_by_script():
            # Celery's own way, where the task id is what keeps a repeat from counting twice.
            found = [msgspec.json.decode(event) for event in events]
            if eager:
                track_events.apply((found,), task_id=task_id, throw=True)
            else:
                now = datetime.now(UTC)
                checked = [Event.from_wire(event, now=now) for event in found]
                track_events.apply_async((checked,), task_id=task_id, retry=retry)
        else:
            publisher = self._publisher_of(producer_id)
            message = envelope(TRACK_EVENTS, os.getpid()).message_of_events(
                task_id, f"{publisher.tag_prefix}{number}", events
            )
            try_s = _TRY_BEFORE_SPOOLING_S if self._spool_dir else TRY_S
            publisher.send(message, len(events), try_s, number)
        self._is_away = False

    def _publisher_of(self, producer_id: str) -> Publisher:
        if self._publisher is None or self._publisher.id != producer_id:
            if self._publisher is not None:
                self._publisher.close()
            self._publisher = new_publisher(producer_id, _REPLY_WITHIN_S)
        return self._publisher


def _spools() -> type[Spool]:
    """Not imported where none is kept: Windows has no locks on files as they need."""
    from pipeline.producer.spool import Spool

    return Spool


def _left_over(spool_dir: Path) -> list[Spool]:
    try:
        if not spool_dir.exists():
            make_private_directory(spool_dir)
        check_shared_directory(spool_dir)
        if not os.access(spool_dir, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError("permission denied")
        return _spools().left_over(spool_dir, _SPOOLS_AT_ONCE)
    except OSError as error:
        raise InvalidConfiguration(
            f"spool_dir={spool_dir} cannot be written ({error}): give a directory that can"
        ) from error
