"""What a parser makes of a request: events ready to be published, and what was wrong with the
others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.contract import MAX_MESSAGE_BYTES
from pipeline.web.errors import EventRefused, TooLarge

MAX_EVENT_BYTES = 32 * 1024
MAX_BATCH_BYTES = 500 * 1024


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event of a batch that is not accepted: its place, the field, and what to do about it."""

    index: int
    field: str
    reason: str


@dataclass(slots=True)
class ParsedEvents:
    """The events of one request, as JSON, and those rejected."""

    events: list[bytes] = field(default_factory=list)
    rejected: list[RejectedEvent] = field(default_factory=list)

    def check(self) -> None:
        """Raise `EventRefused` unless one event is good, `TooLarge` unless all fit one message,
        which the broker takes whole or not at all."""
        if self.rejected and not self.events:
            first = self.rejected[0]
            raise EventRefused(first.reason, first.field)
        size = sum(map(len, self.events)) + len(self.events)
        if size > MAX_MESSAGE_BYTES:
            raise TooLarge.for_message(size, MAX_MESSAGE_BYTES)


ParsingSteps = Iterator[ParsedEvents | None]
"""Parses a bit at a time: yields None after each, and in the end the events."""
