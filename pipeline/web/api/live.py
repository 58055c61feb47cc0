"""Counts as they change, as server-sent events: one poll for all who listen.

While anybody listens, today's counts of all wanted event types are read about once a second, in one
exact read. Every listener is told what differs from what it was told last: one that is slow misses
steps between, never the newest counts, and nothing piles up for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import date
from threading import Event as ThreadEvent
from typing import Any

import msgspec

from pipeline.counting.apply import Counters
from pipeline.reading.stats import Stats
from pipeline.upkeep.audit import types_ever_counted
from pipeline.web.answers import Refused, unavailable
from pipeline.web.api.queries import today
from pipeline.web.api.reads import Reads

POLL_EVERY_S = 1.0
HEARTBEAT_S = 15.0
MOST_LISTENERS = 1_000
MOST_TYPES = 1_000
_LOOK_UP_S = 0.5
"""How soon a listener notices that the server is to stop."""

_encode = msgspec.json.Encoder().encode
logger = logging.getLogger(__name__)

Types = frozenset[str] | None
"""Event types; None for all."""


@dataclass(frozen=True)
class Snapshot:
    """The counts of a day as of one poll, or why there are none."""

    day: date
    counts: dict[str, int] = field(default_factory=dict)
    problem: str | None = None


class Live:
    """The poll and its listeners. `stopping` is set when the server is to stop."""

    def __init__(
        self, stats: Stats, counters: Counters, reads: Reads, stopping: ThreadEvent
    ) -> None:
        self._stats, self._counters, self._reads = stats, counters, reads
        self._stopping = stopping
        self._listeners: dict[object, Types] = {}
        self._begun = self._done = 0
        """Polls. A listener believes those that began after it came."""
        self._newest = Snapshot(today())
        self._tick = asyncio.Event()
        self._hurry = asyncio.Event()
        self._poll: asyncio.Task[None] | None = None

    async def check(self, types: Types) -> None:
        """Raise `Refused` when there is nothing to listen to now."""
        if len(self._listeners) >= MOST_LISTENERS:
            raise unavailable(
                f"{MOST_LISTENERS} listeners are here, as many as may be; try again later"
            )
        await self._reads.quick(self._look, today(), types)

    async def listen(
        self, types: Types, still_valid: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        """The stream of a listener: all counts it wants, then those that change, and a comment now
        and then. Ends when the server stops, or when it is no longer valid."""
        with self._joined(types):
            wait_for, silent_s = self._begun + 1, 0.0
            told: dict[str, int] = {}
            told_of: tuple[date, str | None] | None = None
            yield b"retry: 2000\n\n"
            while not self._stopping.is_set():
                newest = self._newest
                if self._done >= wait_for:
                    if told_of is None or newest.day != told_of[0]:
                        told, told_of = {}, None
                    news = _news(newest, types, told)
                    is_news = told_of != (newest.day, newest.problem)
                    if news or is_news:
                        yield _event(newest, news)
                        told.update(news)
                        told_of, silent_s = (newest.day, newest.problem), 0.0
                if silent_s >= HEARTBEAT_S:
                    yield b": still here\n\n"
                    silent_s = 0.0
                silent_s += await self._next_tick()
                if not await still_valid():
                    return
            yield b": the server stops\n\n"

    @contextlib.contextmanager
    def _joined(self, types: Types) -> Iterator[None]:
        me = object()
        self._listeners[me] = types
        self._hurry.set()
        if self._poll is None or self._poll.done():
            self._poll = asyncio.create_task(self._poll_on())
        try:
            yield
        finally:
            del self._listeners[me]

    async def _next_tick(self) -> float:
        """Wait for a poll to end, but not for long; returns how long it took."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_UP_S):
                await self._tick.wait()
        return loop.time() - began_s

    async def _poll_on(self) -> None:
        while self._listeners and not self._stopping.is_set():
            self._begun += 1
            self._hurry.clear()
            day = today()
            try:
                counts = await self._reads.quick(self._look, day, self._wanted())
                self._newest = Snapshot(day, counts)
            except Refused as error:
                self._newest = Snapshot(day, problem=str(error))
            except Exception:
                logger.exception("live counts could not be read")
                self._newest = Snapshot(day, problem="a fault of this server; its log says more")
            self._done = self._begun
            done, self._tick = self._tick, asyncio.Event()
            done.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_EVERY_S):
                    await self._hurry.wait()

    def _wanted(self) -> Types:
        wanted: set[str] = set()
        for types in self._listeners.values():
            if types is None:
                return None
            wanted |= types
        return frozenset(wanted)

    def _look(self, day: date, types: Types) -> dict[str, int]:
        wanted: Collection[str]
        if types is None:
            wanted = sorted(types_ever_counted(self._counters))[:MOST_TYPES]
            wanted = {*wanted, *self._filtered()}
        else:
            wanted = types
        return self._stats.daily_counts(wanted, day) if wanted else {}

    def _filtered(self) -> set[str]:
        return {one for types in list(self._listeners.values()) if types for one in types}


def _news(newest: Snapshot, types: Types, told: dict[str, int]) -> dict[str, int]:
    return {
        event_type: n
        for event_type, n in newest.counts.items()
        if (types is None or event_type in types) and told.get(event_type) != n
    }


def _event(newest: Snapshot, news: dict[str, int]) -> bytes:
    if newest.problem is not None:
        return _sse("unavailable", {"message": newest.problem})
    return _sse("counts", {"date": newest.day, "counts": news})


def _sse(name: str, data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encode(data))
