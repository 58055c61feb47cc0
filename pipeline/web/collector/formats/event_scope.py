"""Which event types an access key may send, and how old. A key without such a scope costs an event
one comparison. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from pipeline.access.access_key import AccessKey, describe_age
from pipeline.errors import InvalidEvent
from pipeline.event.rules import check_timestamp

_MOST_SHOWN = 200


class EventScope:
    """The event types and the age that a key admits."""

    __slots__ = ("_max_age", "_types")

    def __init__(self, key: AccessKey) -> None:
        self._types = key.event_types
        self._max_age = None if key.max_age_s is None else timedelta(seconds=key.max_age_s)

    def check(self, event_type: object, timestamp: object, now: datetime) -> None:
        """Raise `InvalidEvent` for an event that the key may not send; `event_type` is as the
        client names it, `now` when the request came."""
        if self._types and event_type not in self._types:
            known = ", ".join(self._types)[:_MOST_SHOWN]
            reason = f"is not among the types of this key; send one of: {known}"
            raise InvalidEvent("event_type", event_type, reason)
        if self._max_age is None or timestamp is None:
            return
        if now - check_timestamp(timestamp, now) > self._max_age:
            most = describe_age(int(self._max_age.total_seconds()))
            raise InvalidEvent(
                "timestamp",
                timestamp,
                f"is older than this key admits ({most}); send it sooner, or by a server's key",
            )


def find_event_scope(key: AccessKey) -> EventScope | None:
    """What the key's events are checked against; None for a key that may send any."""
    return EventScope(key) if key.event_types or key.max_age_s is not None else None
