"""Events that are not sent because sending is turned off, as in the tests of an application.

They are checked as usual, then dropped, or given to who records them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pipeline.event.model import Event
from pipeline.producer import settings

_records: list[list[Event]] = []
"""Of the `record` blocks that are entered now, the innermost last."""


def put(events: Iterable[Event]) -> None:
    """Record events that are not sent, or drop them."""
    if _records:
        _records[-1].extend(events)


@contextmanager
def record() -> Iterator[list[Event]]:
    """Send nothing inside this block: every event that would be sent is put at the end of the list
    instead, in order, from any thread of this process."""
    recorded: list[Event] = []
    _records.append(recorded)
    settings.withhold(len(_records))
    try:
        yield recorded
    finally:
        _records.remove(recorded)
        settings.withhold(len(_records))
