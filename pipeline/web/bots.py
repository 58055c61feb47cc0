"""Bots, by user agent: they are counted, and apart from people."""

from __future__ import annotations

from functools import lru_cache

from crawleruseragents import is_crawler

from pipeline.events import MAX_EVENT_TYPE_CHARACTERS

PREFIX = "bot:"
"""What the event types of bots begin with."""
_LOOKED_AT = 512
"""Characters of a user agent that are looked at, so that none takes long."""


def type_for(event_type: str, user_agent: str) -> str:
    """The type under which an event of this user agent counts: its own for people, behind `bot:`
    for bots, cut where it would be too long. Without a user agent nobody is a bot."""
    if not event_type or event_type.startswith(PREFIX):
        return event_type  # an empty one is an error, of bots too
    if user_agent and _is_bot(user_agent[:_LOOKED_AT]):
        return f"{PREFIX}{event_type}"[:MAX_EVENT_TYPE_CHARACTERS]
    return event_type


@lru_cache(maxsize=8_192)
def _is_bot(user_agent: str) -> bool:
    return bool(is_crawler(user_agent))
