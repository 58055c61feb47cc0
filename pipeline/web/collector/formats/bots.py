"""Bots, by user agent: they are counted, and apart from people."""

from __future__ import annotations

from pipeline.contract import BOT_PREFIX, MAX_EVENT_TYPE_CHARACTERS
from pipeline.web.collector.formats.bot_patterns import is_bot

_MAX_CHARACTERS = 256
"""Characters of a user agent that are matched: 20 µs for a browser's, four times that for the
worst."""
_MAX_MATCHES = 200
"""New user agents that are matched for one request, which bounds how long others wait for it."""
_MAX_KNOWN = 20_000

_known: dict[str, bool] = {}


class BotDetector:
    """Finds the bots among the user agents of one request."""

    __slots__ = ("_matches_left",)

    def __init__(self) -> None:
        self._matches_left = _MAX_MATCHES

    def mark_type(self, event_type: str, user_agent: str) -> str:
        """The type under which an event of this user agent counts: its own for people, behind
        `bot:` for bots, cut where it would be too long."""
        if event_type.startswith(BOT_PREFIX) or not self._is_bot(user_agent[:_MAX_CHARACTERS]):
            return event_type
        return f"{BOT_PREFIX}{event_type}"[:MAX_EVENT_TYPE_CHARACTERS]

    def _is_bot(self, user_agent: str) -> bool:
        known = _known.get(user_agent)
        if known is not None:
            return known
        if not self._matches_left:
            return False
        self._matches_left -= 1
        if len(_known) >= _MAX_KNOWN:
            del _known[next(iter(_known))]  # the oldest; a flood does not empty it at one blow
        found = _known[user_agent] = is_bot(user_agent)
        return found
