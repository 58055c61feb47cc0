"""What is added to the events of visitors, by the settings; of one event loop."""

from __future__ import annotations

from collections.abc import Collection

import redis

from pipeline.redis.keys import Keys
from pipeline.web.collector.visits import user_agents
from pipeline.web.collector.visits.context import Sender
from pipeline.web.collector.visits.request_visits import RequestVisits
from pipeline.web.collector.visits.sessions import Sessions


class Visits:
    """Makes a `RequestVisits` for each request."""

    def __init__(self, names: Collection[str], sessions: Sessions | None) -> None:
        self._names, self._sessions = frozenset(names), sessions

    def begin(self, sender: Sender) -> RequestVisits:
        """For the events of a request."""
        return RequestVisits(self._names, self._sessions, sender)

    def close(self) -> None:
        """End the thread."""
        if self._sessions is not None:
            self._sessions.close()


def create_visits(
    names: Collection[str], client: redis.Redis, keys: Keys, *, has_sessions: bool
) -> Visits | None:
    """None where the settings ask for nothing: then nothing is spent on it."""
    if not names and not has_sessions:
        return None
    user_agents.prepare()
    return Visits(names, Sessions(client, keys) if has_sessions else None)
