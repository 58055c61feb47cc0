"""What the collector adds to events changes nothing else about them, whatever they hold."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from pipeline.contract import PAGE_PROPERTIES
from pipeline.event.model import Event
from pipeline.web.collector.formats.event_encoder import EventEncoder
from pipeline.web.collector.formats.parsed_events import ParsedEvents
from pipeline.web.collector.visits.context import Sender
from pipeline.web.collector.visits.request_visits import RequestVisits
from pipeline.web.collector.visits.sessions import Session, Sessions, Visit

_OF_A_SESSION = {"session_id", "entry_page"}


class _KnownSessions:
    """The same session for every visitor, begun by the first page view."""

    def __init__(self, is_there: bool) -> None:
        self._is_there = is_there

    async def find(self, visits: Sequence[Visit], at: datetime) -> Sequence[Session | None]:
        return [Session("x" * 20, one.first_view) if self._is_there else None for one in visits]


def check_additions(
    plain: Sequence[bytes],
    encoder: EventEncoder,
    parse: Callable[[EventEncoder], ParsedEvents],
) -> None:
    """With all that can be added, a request's events are valid and have what they had before."""
    sender = Sender(
        site="shop",
        address="192.0.2.1",
        user_agent=encoder.user_agent or "?",
        is_browser=True,
        host="",
        is_server=False,
        is_private=False,
        received_at=encoder.received_at,
    )
    for is_there in (True, False):
        sessions = cast("Sessions", _KnownSessions(is_there))
        visits = RequestVisits(frozenset(PAGE_PROPERTIES), sessions, sender)
        events = parse(replace(encoder, visits=visits, bots=None)).events
        filled = _finish(visits.fill(events))
        assert len(filled) == len(plain)
        for before, after in zip(plain, filled, strict=True):
            event = Event.from_wire(msgspec.json.decode(after), now=datetime.now(UTC))
            given = msgspec.json.decode(before).get("properties") or {}
            found = event.properties or {}
            assert all(found[name] == value for name, value in given.items())
            assert is_there or not (found.keys() - given.keys()) & _OF_A_SESSION


def _finish(work: Coroutine[Any, Any, list[bytes]]) -> list[bytes]:
    """The result of what waits for nothing."""
    try:
        work.send(None)
    except StopIteration as ended:
        return cast("list[bytes]", ended.value)
    raise AssertionError("it waits")
