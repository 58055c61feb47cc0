"""Sessions of visitors without cookies: what a visitor does with pauses of less than half an hour.

A visitor is a digest of address and user agent under a salt that is new every day; Redis keeps it
for half an hour, and nothing else of the visitor. All requests that wait share a call of Redis,
which is waited for no longer than `_PATIENCE_S`: without an answer events have no session.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import redis

from pipeline.redis.keys import Keys, escape_again
from pipeline.redis.scripts import Script
from pipeline.web.collector.visits.salts import DailySalts, digest

IDLE_S = 1_800
"""A session ends so long after its last event."""
MOST_SESSIONS = 200_000
"""Sessions of a site that may begin within `IDLE_S`: invented visitors do not fill Redis."""
_PATIENCE_S = 0.5
_AWAY_S = 1.0
"""For how long Redis is not asked again after it has not answered."""
_MOST_TOGETHER = 250
"""Visitors whose sessions are found by one call, unless one request has more."""
_SESSIONS = Script("pipeline.web.collector.visits.sessions")

logger = logging.getLogger(__name__)


class Visitor(NamedTuple):
    """Who visits a site, as long as a request lasts."""

    site: str
    address: str
    user_agent: str


@dataclass(slots=True)
class Visit:
    """What a request holds of one visitor."""

    visitor: Visitor
    begins: bool = False
    """Whether it has an event that begins a session where there is none."""
    first_view: str = ""
    """The id of its first page view; "" for none."""


class Session(NamedTuple):
    """A session; its id says nothing of the visitor, nor of another session."""

    id: str
    entry: str
    """The id of its first page view; "" for none yet."""


@dataclass(slots=True)
class _Asking:
    """A request that waits for its sessions."""

    visits: Sequence[Visit]
    at: datetime
    found: asyncio.Future[Sequence[Session | None]]


class Sessions:
    """Finds sessions, for one event loop."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys
        self._salts = DailySalts(client, keys)
        self._thread = ThreadPoolExecutor(1, "analytics-sessions")
        self._waiting: deque[_Asking] = deque()
        self._asking: asyncio.Task[None] | None = None
        self._away_until_s = 0.0
        self._is_away = False

    async def find(self, visits: Sequence[Visit], at: datetime) -> Sequence[Session | None]:
        """The session of each visit, begun at this moment (UTC) unless there is one; None for
        those without, and for all while Redis does not answer. Raises nothing."""
        if time.monotonic() < self._away_until_s:
            return [None] * len(visits)
        loop = asyncio.get_running_loop()
        asking = _Asking(visits, at, loop.create_future())
        self._waiting.append(asking)
        if self._asking is None:
            self._asking = loop.create_task(self._ask_all())
        timer = loop.call_later(_PATIENCE_S, self._give_up, asking)
        try:
            return await asking.found
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _give_up(self, asking: _Asking) -> None:
        if not asking.found.done():
            self._note_outage("Redis is slow")
            asking.found.set_result([None] * len(asking.visits))

    async def _ask_all(self) -> None:
        loop = asyncio.get_running_loop()
        # Requests that came in the same turn of the loop go together.
        await asyncio.sleep(0)
        while together := self._take_waiting():
            found: Sequence[Sequence[Session | None]]
            try:
                found = await loop.run_in_executor(self._thread, self._find, together)
                self._is_away = False
            except Exception as error:  # no event is lost because it has no session
                self._note_outage(str(error))
                found = [[None] * len(asking.visits) for asking in together]
            for asking, sessions in zip(together, found, strict=True):
                if not asking.found.done():
                    asking.found.set_result(sessions)
        self._asking = None

    def _take_waiting(self) -> list[_Asking]:
        together: list[_Asking] = []
        visits = 0
        while self._waiting and visits < _MOST_TOGETHER:
            asking = self._waiting.popleft()
            if not asking.found.done():
                together.append(asking)
                visits += len(asking.visits)
        return together

    def _find(self, together: Sequence[_Asking]) -> list[list[Session | None]]:
        """Runs in the thread. Raises redis.RedisError."""
        salted = [(self._salts.find(one.at), one) for one in together]
        asked = [(salt, visit) for salt, one in salted for visit in one.visits]
        digests = [digest(salt, *visit.visitor) for salt, visit in asked]
        prefix = f"{self._keys.prefix}seen:"
        keys, views = [], []
        for (_, visit), visitor in zip(asked, digests, strict=True):
            keys += [f"{prefix}session:{visitor}"]
            keys += [f"{prefix}sessions:{escape_again(visit.visitor.site)}"]
            views.append(visit.first_view or ("" if visit.begins else "-"))
        # Those of one call begin together: none of them has waited for longer than a moment.
        now_ms = int(together[-1].at.timestamp() * 1_000)
        args = [now_ms, IDLE_S * 1_000, MOST_SESSIONS, *views]
        answers: list[bytes] = _SESSIONS.run(self._client, keys, args)
        sessions = [
            _read_session(answer.decode(), salt, visitor)
            for answer, (salt, _), visitor in zip(answers, asked, digests, strict=True)
        ]
        at = iter(sessions)
        return [[next(at) for _ in one.visits] for one in together]

    def _note_outage(self, reason: str) -> None:
        self._away_until_s = time.monotonic() + _AWAY_S
        if not self._is_away:
            logger.warning("events are taken without a session meanwhile: %s", reason)
        self._is_away = True


def _read_session(answer: str, salt: bytes, visitor: str) -> Session | None:
    began, _, entry = answer.partition(":")
    return Session(digest(salt, visitor, began), entry) if answer else None
