"""`Tracker`: events of hot paths, gathered in memory and sent by a background thread.

`track()` costs a few microseconds and no round trip. What it returns from is in a buffer of this
process, not yet accepted: `flush()` waits until the broker has taken everything, and so do `close`,
the end of a `with` block and the end of the program. Each message has its number and is sent under
it until it is taken, so however often that takes, its events are counted once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from pipeline.days import UTC
from pipeline.errors import InvalidEvent
from pipeline.event.model import FIELDS, Event, encode_event
from pipeline.producer.tracking.background_sender import BackgroundSender
from pipeline.producer.tracking.buffer import Limits

WhenFull = Literal["block", "drop", "spool"]


class Tracker:
    """A bounded buffer of events and the thread that sends them. Safe to share between threads.

    `max_events` and `max_bytes` bound a message, `max_age_s` how long an event waits for others.
    `capacity` and `capacity_bytes` bound the buffer; when it is full, `track` waits ("block"),
    drops the event ("drop": counted in `dropped` and told to `on_drop`), or waits for the thread,
    which writes to files in `spool_dir` while the broker is away ("spool": up to `spool_bytes`,
    then as "block"). Files that a killed process left there are sent by the next tracker.

    A fork gives the child an empty buffer; what the parent holds the parent sends.
    """

    def __init__(  # noqa: PLR0913 - each bounds or says something of its own
        self,
        *,
        max_events: int = 500,
        max_bytes: int = 512 * 1024,
        max_age_s: float = 0.2,
        capacity: int = 100_000,
        capacity_bytes: int = 64 * 1024 * 1024,
        when_full: WhenFull = "block",
        on_drop: Callable[[int], None] | None = None,
        spool_dir: Path | str | None = None,
        spool_bytes: int = 1024**3,
    ) -> None:
        """Starts nothing yet: the thread begins with the first event. Raises ValueError."""
        limits = Limits(max_events, max_bytes, max_age_s, capacity, capacity_bytes)
        if when_full not in ("block", "drop", "spool"):
            raise ValueError(f'when_full={when_full!r}: give "block", "drop" or "spool"')
        if (when_full == "spool") != (spool_dir is not None):
            raise ValueError('spool_dir goes with when_full="spool", and is needed there')
        if when_full == "spool" and find_spec("fcntl") is None:
            raise ValueError(
                'when_full="spool" needs file locks (the module fcntl, which Windows does not '
                'have): give "block" or "drop"'
            )
        if spool_bytes < 1:
            raise ValueError(f"spool_bytes={spool_bytes}: give 1 or more")
        if on_drop is not None and when_full != "drop":
            raise ValueError('on_drop goes with when_full="drop"')
        directory = Path(spool_dir) if spool_dir is not None else None
        self.background = BackgroundSender(
            limits, when_full == "drop", on_drop, directory, spool_bytes
        )
        """The buffer and the thread: what `AsyncTracker` is built on."""

    @property
    def dropped(self) -> int:
        """How many events were dropped because the buffer was full."""
        return self.background.buffer.dropped

    def track(
        self,
        event_type: str,
        user_id: str | int | UUID | None = None,
        properties: Mapping[str, Any] | None = None,
        timestamp: datetime | str | float | None = None,
        event_id: str | int | UUID | None = None,
    ) -> None:
        """Put an event into the buffer; the arguments are those of `track_event`.

        Raises `InvalidEvent`, and RuntimeError after `close`.
        """
        event = encode_event(event_type, user_id, properties, timestamp, event_id)
        background = self.background
        if not background.buffer.put_at_once(event):
            background.put(event)

    def track_many(self, events: Iterable[Mapping[str, Any]]) -> int:
        """Put in all of these, waiting when the buffer is full, and `flush`; returns how many.

        Raises `InvalidEvent` that names the position; the events before it are sent all the same.
        """
        count = 0
        for count, fields in enumerate(events, start=1):
            self.background.put(_encode_fields(fields, count - 1))
        self.flush()
        return count

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until the broker has taken, or the spool holds, all that was put in before.

        Without `timeout_s` for as long as it takes. Raises `EventsNotAccepted`; the events are kept
        and sent on.
        """
        self.background.flush(timeout_s)

    def close(self, timeout_s: float = 30) -> None:
        """Send what is in the buffer and end the thread. May be repeated.

        Raises `EventsNotAccepted` when the broker has not taken everything in time: these events
        are lost unless a later `close` succeeds.
        """
        self.background.close(timeout_s)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _encode_fields(fields: object, position: int) -> bytes:
    try:
        if isinstance(fields, dict) and fields.keys() <= _FIELDS and "event_type" in fields:
            return encode_event(**fields)
        return encode_event(**Event.from_dict(fields, now=datetime.now(UTC)).to_dict())
    except InvalidEvent as error:
        raise error.in_list(position) from error


_FIELDS = frozenset(FIELDS)
