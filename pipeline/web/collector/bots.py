"""Bots, by user agent: they are counted, and apart from people."""

from __future__ import annotations

from crawleruseragents import is_crawler

from pipeline.contract import MAX_EVENT_TYPE_CHARACTERS

PREFIX = "bot:"
"""What the event types of bots begin with."""
_LOOKED_AT = 256
"""Characters of a user agent that are looked at: a third of a millisecond for the worst."""
_LOOKS = 200
"""New user agents that are looked at for one request; nobody else waits longer than for that."""
_MOST_KNOWN = 20_000

_known: dict[str, bool] = {}


class Agents:
    """Tells the bots among the user agents of one request."""

    __slots__ = ("_looks_left",)

    def __init__(self) -> None:
        self._looks_left = _LOOKS

    def type_for(self, event_type: str, user_agent: str) -> str:
        """The type under which an event of this user agent counts: its own for people, behind
        `bot:` for bots, cut where it would be too long."""
        if event_type.startswith(PREFIX) or not self._is_bot(user_agent[:_LOOKED_AT]):
            return event_type
        return f"{PREFIX}{event_type}"[:MAX_EVENT_TYPE_CHARACTERS]

    def _is_bot(self, user_agent: str) -> bool:
        known = _known.get(user_agent)
        if known is not None:
            return known
        if not self._looks_left:
            return False
        self._looks_left -= 1
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        found = _known[user_agent] = bool(is_crawler(user_agent))
        return found
