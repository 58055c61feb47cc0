"""The visits in one request: what its events are given as they are encoded, and their sessions
when all are known.

An event is encoded with a slot in place of its session's id, a text of random characters that no
client can know. The id takes its place when the request has been let in, so that one question to
Redis serves all of its events, and none that is refused begins a session.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
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
_encode = msgspec.json.Encoder().encode


class _Slot(NamedTuple):
    """Where an event is to have its session."""

    visitor: Visitor
    begins: bool
    """Whether the event begins a session where there is none."""
    view: str
    """The id of a page view; "" of any other event."""
    path: str
    """The entry page that it has where it is the first page view; "" for none."""

    def encode_entry(self, session: Session) -> bytes:
        """What the event has beside its session, as JSON."""
        if not self.path or digest_view(self.view) != session.entry:
            return b""
        try:
            return b',"%b":%b' % (ENTRY_PAGE.encode(), _encode(self.path))
        except UnicodeEncodeError:  # a lone surrogate
            return b""


class RequestVisits:
    """Of one request. `names` are the page properties that the setting has; `sessions` None: no
    sessions."""

    def __init__(self, names: frozenset[str], sessions: Sessions | None, sender: Sender) -> None:
        self._names, self._sessions, self._sender = names, sessions, sender
        self._room = _MOST_ADDED_BYTES
        self._slots: list[_Slot] = []
        self._earliest = sender.received_at - timedelta(seconds=IDLE_S)
        self._has_entries = ENTRY_PAGE in names
        self._mark = ""
        self._visitor: Visitor | None = None
        if sessions is None or sender.is_private:
            return
        self._mark = secrets.token_hex(12)
        if sender.is_browser and sender.address and sender.user_agent:
            agent = sender.user_agent[:_LONGEST_AGENT]
            self._visitor = Visitor(sender.site, sender.address, agent)

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
            view = path = ""
            if is_view:
                view = str(event_id) if event_id else secrets.token_hex(10)
                if self._has_entries and ENTRY_PAGE not in properties:
                    path = find_page_path(properties, context)
                    self._room -= len(path)
            self._slots.append(_Slot(visitor, event_type != _ENDS_A_VIEW, view, path))
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
                if slot.view and not visit.first_view:
                    visit.first_view = digest_view(slot.view)
        found = await self._sessions.find(list(visits.values()), self._sender.received_at)
        sessions = dict(zip(visits, found, strict=True))
        return [
            event if slot is None else _fill(before, slot, sessions[slot.visitor], after[5:])
            for event, slot, (before, _, after) in zip(events, slots, parts, strict=True)
        ]

    def _find_visitor(self, timestamp: object, context: Context, user_agent: str) -> Visitor | None:
        if self._mark == "" or not (timestamp is None or self._is_of_late(timestamp)):
            return None
        sender = self._sender
        if sender.is_browser:
            return self._visitor
        address = context.ip
        if not sender.is_server or not isinstance(address, str) or not address:
            return None
        if not isinstance(context.user_agent, str) or not user_agent:
            return None
        masked = mask_address(address[:_LONGEST_ADDRESS].replace("\0", ""))
        return Visitor(sender.site, masked, user_agent[:_LONGEST_AGENT])

    def _is_of_late(self, timestamp: object) -> bool:
        """Whether an event is of the session that goes on, and not of one in which it was kept
        offline."""
        try:
            if type(timestamp) is not datetime or timestamp.tzinfo is not UTC:
                timestamp = check_timestamp(timestamp, self._sender.received_at)
        except InvalidEvent:
            return False
        return timestamp > self._earliest


def _fill(before: bytes, slot: _Slot, session: Session | None, after: bytes) -> bytes:
    """An event of which these parts stand around the slot."""
    if session is None:
        return before[:-1] + after if before.endswith(b",") else before + after.removeprefix(b",")
    entry = slot.encode_entry(session)
    if len(before) + len(entry) + len(after) > _MOST_BYTES:
        entry = b""
    return b'%b"%b":"%b"%b%b' % (before, SESSION_ID.encode(), session.id.encode(), entry, after)


def digest_view(view: str) -> str:
    """By what Redis knows a page view that is sent again."""
    return digest_id(view[:_LONGEST_AGENT].encode(errors="replace").decode())
