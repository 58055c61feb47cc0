"""The visits in one request: what its events are given as they are encoded, and their sessions
when all are known.

An event is encoded with a slot in place of its session's id, a text of random characters that no
client can know. The id takes its place when the request has been let in, so that one question to
Redis serves all of its events, and none that is refused begins a session.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec

from pipeline.contract import BOT_PREFIX, MAX_PROPERTIES_BYTES
from pipeline.errors import InvalidEvent
from pipeline.event.rules import check_timestamp
from pipeline.redis.keys import digest_id
from pipeline.web.addresses import mask_address
from pipeline.web.collector.visits.context import Context, Sender
from pipeline.web.collector.visits.page_properties import find_page_path, find_page_properties
from pipeline.web.collector.visits.sessions import IDLE_S, Session, Sessions, Visit, Visitor

SESSION_ID, ENTRY_PAGE = "session_id", "entry_page"
_PAGE_VIEW = "page_view"
_ENDS_A_VIEW = "time_on_page"
"""Comes when a page is left, which may have been read for long: alone it begins no session."""
_WITH_TRAITS = frozenset({"identify", "group", "alias"})
"""Their properties are those of a user or a group."""
_MOST_ADDED_BYTES = 384 * 1024
"""What the events of a request are given: they are to fit into one message all the same."""
_MOST_BYTES = MAX_PROPERTIES_BYTES - 100
_LONGEST_ADDRESS, _LONGEST_AGENT = 100, 256
_IDLE = timedelta(seconds=IDLE_S)
_encode = msgspec.json.Encoder().encode


class _Slot(NamedTuple):
    """Where an event is to have its session."""

    visitor: Visitor
    begins: bool
    """Whether the event begins a session where there is none."""
    view: str
    """The id of a page view; "" of any other event."""
    entry: bytes
    """What the event has beside where it is the first page view, as JSON."""


class RequestVisits:
    """Of one request. `names` are the page properties that the setting has; `sessions` None: no
    sessions."""

    def __init__(self, names: frozenset[str], sessions: Sessions | None, sender: Sender) -> None:
        self._names, self._sessions, self._sender = names, sessions, sender
        self._room = _MOST_ADDED_BYTES
        self._slots: list[_Slot] = []
        self._mark = secrets.token_hex(12) if sessions is not None else ""

    def describe(
        self,
        event_type: object,
        given: object,
        timestamp: object,
        event_id: object,
        context: Context,
        user_agent: object,
    ) -> dict[str, Any] | None:
        """An event's properties with what is added to them; None where that is nothing."""
        if not isinstance(event_type, str) or event_type.startswith(BOT_PREFIX):
            return None
        properties = {} if given is None else given
        if type(properties) is not dict or self._room <= 0:
            return None
        agent = user_agent if isinstance(user_agent, str) else ""
        added: dict[str, str] = {}
        is_view = event_type == _PAGE_VIEW
        if is_view and self._names:
            host = self._sender.host
            added = find_page_properties(self._names, properties, context, agent, host)
        visitor = None
        if SESSION_ID not in properties and event_type not in _WITH_TRAITS:
            visitor = self._find_visitor(timestamp, context, agent)
        if visitor is not None:
            added[SESSION_ID] = f"{self._mark}{len(self._slots):04x}"
            view = _name_view(event_id) if is_view else ""
            entry = self._find_entry(properties, context) if is_view else b""
            self._slots.append(_Slot(visitor, event_type != _ENDS_A_VIEW, view, entry))
            self._room -= len(entry)
        for name, value in added.items():
            self._room -= len(name) + (1 if value.isascii() else 4) * len(value)
        return {**properties, **added} if added else None

    async def fill(self, events: list[bytes]) -> list[bytes]:
        """The events with their sessions, in the same order; those that have none without a
        slot."""
        if self._sessions is None or not self._slots:
            return events
        mark = f'"{SESSION_ID}":"{self._mark}'.encode()
        parts = [event.rpartition(mark) for event in events]
        slots = [
            self._slots[int(after[:4], 16)] if is_there else None for _, is_there, after in parts
        ]
        visits: dict[Visitor, Visit] = {}
        for slot in slots:
            if slot is not None:
                visit = visits.setdefault(slot.visitor, Visit(slot.visitor))
                visit.begins |= slot.begins
                visit.first_view = visit.first_view or slot.view
        found = await self._sessions.find(list(visits.values()), self._sender.received_at)
        sessions = dict(zip(visits, found, strict=True))
        return [
            event if slot is None else _fill(before, slot, sessions[slot.visitor], after[5:])
            for event, slot, (before, _, after) in zip(events, slots, parts, strict=True)
        ]

    def _find_visitor(self, timestamp: object, context: Context, user_agent: str) -> Visitor | None:
        sender = self._sender
        if self._sessions is None or sender.is_private or self._is_late(timestamp):
            return None
        if sender.is_browser:
            if not sender.address or not sender.user_agent:
                return None
            return Visitor(sender.site, sender.address, sender.user_agent[:_LONGEST_AGENT])
        address = context.ip
        if not sender.is_server or not isinstance(address, str) or not address:
            return None
        if not isinstance(context.user_agent, str) or not user_agent:
            return None
        masked = mask_address(address[:_LONGEST_ADDRESS].replace("\0", ""))
        return Visitor(sender.site, masked, user_agent[:_LONGEST_AGENT])

    def _is_late(self, timestamp: object) -> bool:
        """Whether an event is of a session that may be over: one that was kept while offline."""
        if timestamp is None:
            return False
        now = self._sender.received_at
        try:
            return now - check_timestamp(timestamp, now) >= _IDLE
        except InvalidEvent:
            return True

    def _find_entry(self, given: Mapping[str, Any], context: Context) -> bytes:
        if ENTRY_PAGE not in self._names or ENTRY_PAGE in given:
            return b""
        path = find_page_path(given, context)
        try:
            return f',"{ENTRY_PAGE}":'.encode() + _encode(path) if path else b""
        except UnicodeEncodeError:  # a lone surrogate
            return b""


def _fill(before: bytes, slot: _Slot, session: Session | None, after: bytes) -> bytes:
    """An event of which these parts stand around the slot."""
    if session is None:
        return before[:-1] + after if before.endswith(b",") else before + after.removeprefix(b",")
    entry = slot.entry if slot.view and slot.view == session.entry else b""
    if len(before) + len(entry) + len(after) > _MOST_BYTES:
        entry = b""
    return b'%b"%b":"%b"%b%b' % (before, SESSION_ID.encode(), session.id.encode(), entry, after)


def _name_view(event_id: object) -> str:
    """By what a page view is known when it is sent again; at random where it has no id."""
    if not event_id:
        return secrets.token_hex(10)
    return digest_id(str(event_id)[:_LONGEST_AGENT].encode(errors="replace").decode())
