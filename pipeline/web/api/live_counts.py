"""Counts as they change, as a stream of server-sent events: one poll for all listeners.

While there are listeners, today's counts of all wanted event types, of the largest where all are
wanted, are read about once a second, in one exact read. Every listener gets what differs from what
it got last: a slow one misses steps between, never the newest counts, and nothing piles up for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from threading import Event as ThreadEvent
from typing import Any

from pipeline.days import today
from pipeline.reading.event_types import TypeReader
from pipeline.reading.stats import Stats
from pipeline.web.api.threads import ThreadPools
from pipeline.web.errors import InternalFault, RequestRefused, TooManyRequests, Unavailable
from pipeline.web.responses import encode_json

POLL_INTERVAL_S = 1.0
HEARTBEAT_S = 15.0
MAX_LISTENERS = 1_000
MAX_LISTENERS_OF_TOKEN = 100
MAX_TYPES = 1_000
_STOP_CHECK_S = 0.5
"""How soon a stream notices that the server is to stop."""
_POLL = ""
"""In place of the id of a read token: the poll is for all of them."""
_RECONNECT = b"retry: 2000\n\n"
"""How long a client waits before it connects again, in milliseconds."""

logger = logging.getLogger(__name__)

Types = frozenset[str] | None
"""Event types; None for all."""


@dataclass(frozen=True)
class Snapshot:
    """The counts of a day as of one poll, or why they could not be read."""

    day: date
    counts: dict[str, int] = field(default_factory=dict)
    problem: str | None = None


@dataclass
class _Listener:
    """A stream: the event types it wants, the id of its token, and what was sent last."""

    types: Types
    token_id: str
    _sent: dict[str, int] = field(default_factory=dict)
    _sent_of: tuple[date, str | None] | None = None

    def take_news(self, newest: Snapshot) -> bytes | None:
        """The event to send next, which is then taken for sent; None while nothing has changed."""
        if self._sent_of is None or newest.day != self._sent_of[0]:
            self._sent, self._sent_of = {}, None
        news = {
            event_type: n
            for event_type, n in newest.counts.items()
            if (self.types is None or event_type in self.types) and self._sent.get(event_type) != n
        }
        state = newest.day, newest.problem
        if not news and state == self._sent_of:
            return None
        self._sent.update(news)
        self._sent_of = state
        if newest.problem is not None:
            return _encode_event("unavailable", {"message": newest.problem})
        return _encode_event("counts", {"date": newest.day, "counts": news})


class LiveCounts:
    """The poll and its listeners. `stopping` is set when the server is to stop."""

    def __init__(
        self, stats: Stats, types: TypeReader, threads: ThreadPools, stopping: ThreadEvent
    ) -> None:
        self._stats, self._types, self._threads = stats, types, threads
        self._stopping = stopping
        self._listeners: list[_Listener] = []
        self._begun = self._done = 0
        """Polls. A listener waits for one that began after it came."""
        self._newest = Snapshot(today())
        self._tick = asyncio.Event()
        self._hurry = asyncio.Event()
        self._poll: asyncio.Task[None] | None = None

    async def check_readable(self, types: Types, token_id: str) -> None:
        """Raise `Unavailable` unless the counts can be read now and there is room to listen,
        `TooManyRequests` where the token has its share of listeners."""
        self._check_room(token_id)
        await self._threads.run_lookup(token_id, 0, partial(self._read, today(), types))
        self._check_room(token_id)  # others have come meanwhile

    def _check_room(self, token_id: str) -> None:
        if len(self._listeners) >= MAX_LISTENERS:
            raise Unavailable(
                f"{MAX_LISTENERS} listeners are here, as many as may be; try again later"
            )
        of_token = sum(one.token_id == token_id for one in self._listeners)
        if of_token >= MAX_LISTENERS_OF_TOKEN:
            raise TooManyRequests(f"live streams with this token ({of_token})", HEARTBEAT_S)

    async def stream(
        self, types: Types, token_id: str, still_valid: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        """Server-sent events: all counts of these types, then those that change, and a comment now
        and then. Ends when the server stops, or when the listener is no longer valid."""
        with self._joined(types, token_id) as listener:
            wait_for, silent_s = self._begun + 1, 0.0
            yield _RECONNECT
            while not self._stopping.is_set():
                news = listener.take_news(self._newest) if self._done >= wait_for else None
                if news is not None:
                    yield news
                    silent_s = 0.0
                if silent_s >= HEARTBEAT_S:
                    yield b": still here\n\n"
                    silent_s = 0.0
                silent_s += await self._wait_for_poll()
                if not await still_valid():
                    return
            yield b": the server stops\n\n"

    @contextlib.contextmanager
    def _joined(self, types: Types, token_id: str) -> Iterator[_Listener]:
        listener = _Listener(types, token_id)
        self._listeners.append(listener)
        self._hurry.set()
        if self._poll is None or self._poll.done():
            self._poll = asyncio.create_task(self._poll_while_wanted())
        try:
            yield listener
        finally:
            self._listeners = [one for one in self._listeners if one is not listener]

    async def _wait_for_poll(self) -> float:
        """Wait for a poll to end, but not for long; returns how long it took."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_CHECK_S):
                await self._tick.wait()
        return loop.time() - began_s

    async def _poll_while_wanted(self) -> None:
        while self._listeners and not self._stopping.is_set():
            self._begun += 1
            self._hurry.clear()
            self._newest = await self._take_snapshot(today())
            self._done = self._begun
            done, self._tick = self._tick, asyncio.Event()
            done.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_INTERVAL_S):
                    await self._hurry.wait()

    async def _take_snapshot(self, day: date) -> Snapshot:
        try:
            types = self._collect_types()
            read = partial(self._read, day, types)
            return Snapshot(day, await self._threads.run_lookup(_POLL, 0, read))
        except RequestRefused as error:
            return Snapshot(day, problem=error.message)
        except Exception:
            logger.exception("live counts could not be read")
            return Snapshot(day, problem=InternalFault().message)

    def _collect_types(self) -> Types:
        """What any listener wants; None when one of them wants all."""
        wanted: set[str] = set()
        for listener in self._listeners:
            if listener.types is None:
                return None
            wanted |= listener.types
        return frozenset(wanted)

    def _read(self, day: date, types: Types) -> dict[str, int]:
        if types is None:
            # Past the limit, the types that a listener names are read all the same.
            named = set[str]().union(*(one.types for one in self._listeners if one.types))
            return self._types.count_largest(day, MAX_TYPES, named)
        return self._stats.daily_counts(types, day) if types else {}


def _encode_event(name: str, data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), encode_json(data))
