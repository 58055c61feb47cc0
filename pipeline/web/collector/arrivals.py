"""What the collector makes of a request, whatever the shape of its body: events ready to be
published, and what was wrong with the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipeline.contract import MAX_EVENTS_PER_MESSAGE, MAX_MESSAGE_BYTES
from pipeline.errors import InvalidEvent
from pipeline.event.model import encode_event
from pipeline.event.pseudonyms import pseudonym
from pipeline.web.answers import Refused
from pipeline.web.collector.bots import Agents

MAX_EVENT_BYTES = 32 * 1024
MAX_BATCH_BYTES = 500 * 1024


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event of a batch that was not taken: where it stands, the field, what to do about it."""

    index: int
    field: str
    reason: str


@dataclass(slots=True)
class Arrivals:
    """The events of one request, as JSON, and those that are none."""

    events: list[bytes] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    write_key: str = ""
    """The key, where it came in the body."""

    def check(self) -> None:
        """Raises `Refused` unless something was good, and fits one message, which is taken whole or
        not at all."""
        if self.rejected and not self.events:
            first = self.rejected[0]
            raise Refused(400, "invalid_event", first.reason, field=first.field)
        size = sum(map(len, self.events)) + len(self.events)
        if size > MAX_MESSAGE_BYTES:
            reason = f"the events take {size} bytes; at most {MAX_MESSAGE_BYTES} fit a request"
            raise Refused(413, "too_large", f"{reason}; send several")


def too_many(events: int) -> Refused:
    """A request holds more events than one message."""
    reason = f"{events} events; a request holds at most {MAX_EVENTS_PER_MESSAGE}; send several"
    return Refused(413, "too_many_events", reason)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a request, as far as it matters to its events."""

    user_id_secret: str
    user_agent: str
    """Of the request."""
    is_browser: bool
    """Whether a page sent it: a server's own user agent says nothing about a visitor."""
    referrer: str
    received_at: datetime
    agents: Agents = field(default_factory=Agents)

    def encoded(
        self,
        event_type: object,
        user_id: object,
        properties: Mapping[str, Any] | None,
        timestamp: object,
        event_id: object,
        user_agent: object = None,
    ) -> bytes:
        """The event as JSON. Raises `InvalidEvent`.

        `user_agent` is the visitor's, where the body names it; else that of a browser counts.
        """
        agent = user_agent or (self.user_agent if self.is_browser else "")
        if agent and isinstance(agent, str) and isinstance(event_type, str):
            event_type = self.agents.type_for(event_type, agent)
        if self.user_id_secret and isinstance(user_id, str) and user_id:
            user_id = pseudonym(self.user_id_secret, user_id)
        return encode_event(event_type, user_id, properties, timestamp, event_id)

    def pseudonym(self, user_id: str) -> str:
        """What stands for a user id that a property holds."""
        return pseudonym(self.user_id_secret, user_id)


def at_utc(timestamp: datetime | float | None, field_name: str) -> datetime | None:
    """A client's time in UTC; one without a zone is meant so. Raises `InvalidEvent`."""
    if timestamp is None:
        return None
    try:
        if not isinstance(timestamp, datetime):
            return datetime.fromtimestamp(timestamp, UTC)
        if timestamp.tzinfo is UTC:
            return timestamp
        if timestamp.tzinfo is None:
            return timestamp.replace(tzinfo=UTC)
        return timestamp.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidEvent(
            field_name, timestamp, "is outside the years 1 to 9999; send ISO 8601 text"
        ) from error
