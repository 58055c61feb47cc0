"""From the fields of an event, whatever the format they came in, to our event as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.errors import InvalidEvent
from pipeline.event.model import encode_event
from pipeline.event.names import clean_name
from pipeline.event.pseudonyms import pseudonym
from pipeline.event.rules import check_user_id
from pipeline.event.times import read_unix_time
from pipeline.web.collector.formats.bots import BotDetector
from pipeline.web.collector.formats.event_scope import EventScope
from pipeline.web.collector.visits.context import NO_CONTEXT, Context
from pipeline.web.collector.visits.request_visits import RequestVisits


@dataclass(slots=True)  # frozen it would take twice as long to make, for each request
class EventEncoder:
    """Encodes the events of one request, with what its head says about them."""

    user_id_secret: str
    user_agent: str
    """Of the request."""
    is_browser: bool
    """Whether a page sent it: a server's own user agent says nothing about a visitor."""
    referrer: str
    received_at: datetime
    source: str = ""
    """Of the key: within what, beside their types, the ids of its events are unique."""
    scope: EventScope | None = None
    """What the key may send, where that is not everything."""
    bots: BotDetector | None = None
    """Made for the first event that has a user agent."""
    visits: RequestVisits | None = None
    """What events are given beside what they say, where a setting asks for it."""

    def encode(
        self,
        event_type: object,
        user_id: object,
        properties: Mapping[str, Any] | None,
        timestamp: object,
        event_id: object,
        context: Context = NO_CONTEXT,
    ) -> bytes:
        """The event as JSON. Raises `InvalidEvent`.

        The context's user agent is the visitor's, where it has one; else that of a browser counts.
        """
        if self.scope is not None:
            self.scope.check(event_type, timestamp, self.received_at)
        agent = context.user_agent or (self.user_agent if self.is_browser else "")
        if agent and isinstance(agent, str) and isinstance(event_type, str):
            self.bots = self.bots or BotDetector()
            event_type = self.bots.mark_type(event_type, agent)
        if user_id is not None and (
            self.user_id_secret or type(user_id) is not str or user_id < "!"
        ):
            user_id = self._find_user(user_id)
        if self.visits is not None:
            more = self.visits.describe(event_type, properties, timestamp, event_id, context, agent)
            if more is not None:
                try:
                    return encode_event(event_type, user_id, more, timestamp, event_id, self.source)
                except InvalidEvent:
                    pass  # which may be because of what was added: it made the event too large
        return encode_event(event_type, user_id, properties, timestamp, event_id, self.source)

    def _find_user(self, user_id: object) -> object:
        if isinstance(user_id, str) and not clean_name(user_id):
            return None  # an event without a user is better than none
        return self.pseudonymise(check_user_id(user_id)) if self.user_id_secret else user_id

    def pseudonymise(self, user_id: str) -> str:
        """The pseudonym of a user id; the id itself where no secret is set."""
        return pseudonym(self.user_id_secret, user_id)


def convert_to_utc(timestamp: datetime | float | None, field_name: str) -> datetime | None:
    """A client's time in UTC; one without a zone is in UTC already. Raises `InvalidEvent`."""
    if timestamp is None:
        return None
    try:
        if not isinstance(timestamp, datetime):
            return read_unix_time(timestamp)
        if timestamp.tzinfo is UTC:
            return timestamp
        if timestamp.tzinfo is None:
            return timestamp.replace(tzinfo=UTC)
        return timestamp.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidEvent(
            field_name, timestamp, "is outside the years 1 to 9999; send ISO 8601 text"
        ) from error
