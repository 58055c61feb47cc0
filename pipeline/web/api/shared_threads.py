"""Threads that the holders of read tokens share: none takes all of them from the others.

Work beyond a token's share waits for its turn and costs next to nothing meanwhile; the tokens take
turns. So what one client asks for at once decides how long that client waits, not how long others
do, and the event loop competes with few threads for the interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pipeline.web.errors import TooManyRequests, Unavailable

MOST_WAITING = 1_000
"""Requests that wait for a thread."""
MOST_WAITING_OF_TOKEN = 200
RETRY_AFTER_S = 5
_Result = TypeVar("_Result")


class SharedThreads:
    """Some threads, of which one token has at most its share at once. For one event loop."""

    def __init__(self, name: str, threads: int, of_token: int) -> None:
        self._executor = ThreadPoolExecutor(threads, name)
        self._free, self._of_token = threads, of_token
        self._working: Counter[str] = Counter()
        # Those whose token had a turn longest ago come first.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def run(self, token_id: str, work: Callable[[], _Result]) -> _Result:
        """What `work` returns. Work that has begun keeps its thread until it ends, also when the
        caller is cancelled.

        Raises `TooManyRequests` when too many requests with the token wait, `Unavailable` when too
        many wait in all.
        """
        if self._may_begin(token_id):
            self._begin(token_id)
        else:
            await self._wait_for_turn(token_id)
        loop = asyncio.get_running_loop()

        def end(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._end, token_id)

        job = self._executor.submit(work)
        job.add_done_callback(end)
        return await asyncio.wrap_future(job)

    def has_its_share(self, token_id: str) -> bool:
        """Whether more work of the token would wait for its own."""
        return self._working[token_id] >= self._of_token

    def close(self) -> None:
        """Let go of the threads; those at work end when they have done it."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _may_begin(self, token_id: str) -> bool:
        return self._free > 0 and not self.has_its_share(token_id)

    def _begin(self, token_id: str) -> None:
        self._free -= 1
        self._working[token_id] += 1

    def _end(self, token_id: str) -> None:
        self._free += 1
        self._working[token_id] -= 1
        if not self._working[token_id]:
            del self._working[token_id]
        self._begin_next()

    async def _wait_for_turn(self, token_id: str) -> None:
        waiting = self._waiting.get(token_id, ())
        if len(waiting) >= MOST_WAITING_OF_TOKEN:
            raise too_many_reads()
        if sum(map(len, self._waiting.values())) >= MOST_WAITING:
            raise Unavailable(f"{MOST_WAITING} requests wait already; try again shortly")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(token_id, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._end(token_id)  # the turn came at the same moment
            else:
                self._forget(token_id, turn)
            raise

    def _begin_next(self) -> None:
        for token_id in list(self._waiting):
            while self._waiting.get(token_id) and self._may_begin(token_id):
                turn = self._waiting[token_id][0]
                self._forget(token_id, turn)
                if not turn.done():
                    self._begin(token_id)
                    turn.set_result(None)
                    break

    def _forget(self, token_id: str, turn: asyncio.Future[None]) -> None:
        """Take a request from those that wait; its token's next one comes after the others'."""
        waiting = self._waiting.pop(token_id, deque())
        with contextlib.suppress(ValueError):
            waiting.remove(turn)
        if waiting:
            self._waiting[token_id] = waiting


def too_many_reads() -> TooManyRequests:
    """More is asked for with one token than is read for it in time."""
    return TooManyRequests("requests at once with this read token", RETRY_AFTER_S)
