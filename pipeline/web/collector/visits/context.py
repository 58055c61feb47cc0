"""What an event says about its page and its visitor, beside its properties; and the request that
brought it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec


class Context(msgspec.Struct, rename="camel", gc=False):
    """As Segment's calls have it; nothing in it has been checked. Other formats fill it in."""

    user_agent: Any = None
    page: Any = None
    traits: Any = None
    campaign: Any = None
    ip: Any = None


NO_CONTEXT = Context()


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a request, as its head says. Kept no longer than the request."""

    site: str
    """The source of the key, else its id: a visitor of two sites is two visitors."""
    address: str
    user_agent: str
    is_browser: bool
    host: str
    """Of the page that sent it; "" where that is not known."""
    is_server: bool
    """Whether its key is a server's, whose events may say who the visitor is."""
    is_private: bool
    """Whether the visitor's browser asks not to be tracked."""
    received_at: datetime
