"""Who sends a request: the read token behind the session of a browser, asked for at every request.

A session is asked for in Redis every other second at most, and its token in the copy that every
process has of the access keys: a token that is revoked, and a session that was ended, let no one in
within seconds. While Redis is away neither can change, and who was known before may see the last
numbers that this process has shown.

Questions to Redis take turns: by token, and by address where no session is known yet. So strangers
who make up cookies, and a viewer with a hundred live pages, delay no one else.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

from starlette.requests import Request

from pipeline.access.access_key import AccessKey
from pipeline.access.key_store import AccessKeyStore
from pipeline.access.sessions import Session, SessionStore
from pipeline.errors import ServerUnavailable
from pipeline.web.addresses import mask_address
from pipeline.web.api.shared_threads import SharedThreads
from pipeline.web.dashboard.session.cookies import read_cookie
from pipeline.web.errors import Unavailable

_ASKED_AGAIN_S = 2.0
_KNOWN_S = 900.0
"""For how long the last numbers are shown while Redis is away."""
_MOST_KNOWN = 10_000
_TIMEOUT_S = 3.0
_THREADS, _THREADS_OF_ONE = 2, 1
_LONGEST_ADDRESS = 100
_Result = TypeVar("_Result")


class _Known(NamedTuple):
    session: Session
    at_s: float


class Viewers:
    """The people who are signed in to one Redis, with a short memory. For one event loop."""

    def __init__(self, sessions: SessionStore, access_keys: AccessKeyStore) -> None:
        self.sessions, self._access_keys = sessions, access_keys
        self._threads = SharedThreads("sessions", _THREADS, _THREADS_OF_ONE)
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Session | None]] = {}

    async def find(self, request: Request) -> AccessKey | None:
        """The token of the viewer who sends this request, None without a session. Raises
        `Unavailable`."""
        text = read_cookie(request)
        if not text:
            return None
        known = self._known.get(text)
        if known is None or time.monotonic() - known.at_s > _ASKED_AGAIN_S:
            session = await self._ask(request, text)
            if session is None:
                self._known.pop(text, None)
                return None
            known = self._remember(text, session)
        return await self.find_token(known.session.token_id)

    async def find_token(self, token_id: str) -> AccessKey | None:
        """The read token, if it is valid. Raises `Unavailable`."""
        try:
            return await self._access_keys.find_token_async(token_id)
        except ServerUnavailable as error:
            raise _describe_outage() from error

    async def check_token(self, text: str) -> AccessKey | None:
        """The read token that was presented, if it is valid. Raises `Unavailable`."""
        try:
            return await self._access_keys.check_async("read", text)
        except ServerUnavailable as error:
            raise _describe_outage() from error

    def find_known(self, request: Request) -> str | None:
        """The id of the token that this request had when Redis last answered, of late."""
        known = self._known.get(read_cookie(request))
        if known is None or time.monotonic() - known.at_s > _KNOWN_S:
            return None
        return known.session.token_id

    async def end(self, request: Request) -> None:
        """End the session of this request. Raises `Unavailable`."""
        text = read_cookie(request)
        self._known.pop(text, None)
        await self.run(request, partial(self.sessions.end, text))

    async def run(self, request: Request, work: Callable[[], _Result]) -> _Result:
        """What `work` returns, which asks Redis something small. Raises `Unavailable`, and
        `TooManyRequests` where its sender has too many at once."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await self._threads.run(self._find_share(request), work)
        except (ServerUnavailable, TimeoutError) as error:
            raise _describe_outage() from error

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.close()

    async def _ask(self, request: Request, text: str) -> Session | None:
        """The session as Redis has it; requests of one session that come meanwhile share that."""
        asking = self._asking.get(text)
        if asking is None:
            asking = asyncio.create_task(self.run(request, partial(self.sessions.find, text)))
            self._asking[text] = asking
            asking.add_done_callback(partial(self._end_asking, text))
        return await asyncio.shield(asking)

    def _end_asking(self, text: str, asked: asyncio.Task[Session | None]) -> None:
        del self._asking[text]
        if not asked.cancelled():
            asked.exception()  # those who wait for it raise it; they may have gone

    def _find_share(self, request: Request) -> str:
        """Whose turn a question takes: that of a token, or of an address."""
        known = self._known.get(read_cookie(request))
        if known is not None:
            return known.session.token_id
        return f"@{mask_address(request.client.host[:_LONGEST_ADDRESS])}" if request.client else ""

    def _remember(self, text: str, session: Session) -> _Known:
        known = self._known[text] = _Known(session, time.monotonic())
        self._known.move_to_end(text)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return known


def _describe_outage() -> Unavailable:
    return Unavailable("Redis does not answer; try again shortly")
