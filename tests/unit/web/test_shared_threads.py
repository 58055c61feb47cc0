"""Threads are shared fairly, whatever one token asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from threading import Event

import pytest

from pipeline.web.api.shared_threads import MOST_WAITING_OF_TOKEN, SharedThreads
from pipeline.web.errors import TooManyRequests

TIMEOUT_S = 20


class Reads:
    """Reads that begin, and end when they are released."""

    def __init__(self, threads: int, of_token: int) -> None:
        self.shared = SharedThreads("test", threads, of_token)
        self.begun: list[str] = []
        self._released = {"a": Event(), "b": Event(), "c": Event()}
        self.tasks: list[asyncio.Task[str]] = []

    def ask(self, token_id: str) -> asyncio.Task[str]:
        def work() -> str:
            self.begun.append(token_id)
            assert self._released[token_id].wait(TIMEOUT_S)
            return token_id

        self.tasks.append(asyncio.create_task(self.shared.run(token_id, work)))
        return self.tasks[-1]

    def release(self, token_id: str) -> None:
        self._released[token_id].set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                await asyncio.sleep(0.001)


def run(scenario: Callable[[Reads], Awaitable[None]], threads: int = 3, of_token: int = 2) -> None:
    async def play() -> None:
        reads = Reads(threads, of_token)
        try:
            await scenario(reads)
        finally:
            for token_id in "abc":
                reads.release(token_id)
            await asyncio.gather(*reads.tasks, return_exceptions=True)
            reads.shared.close()

    asyncio.run(play())


def test_a_token_takes_its_share_and_no_more() -> None:
    async def scenario(reads: Reads) -> None:
        for _ in range(10):
            reads.ask("a")
        other = reads.ask("b")
        await reads.until(lambda: len(reads.begun) == 3)
        assert sorted(reads.begun) == ["a", "a", "b"]
        reads.release("b")
        assert await other == "b"

    run(scenario)


def test_tokens_take_turns() -> None:
    async def scenario(reads: Reads) -> None:
        reads.ask("a")
        await reads.until(lambda: len(reads.begun) == 1)
        for token_id in "aabc":
            reads.ask(token_id)
            await asyncio.sleep(0)
        for token_id in "abc":
            reads.release(token_id)
        await asyncio.gather(*reads.tasks)
        assert reads.begun == ["a", "a", "b", "c", "a"]

    run(scenario, threads=1, of_token=1)


def test_a_read_that_is_given_up_keeps_its_thread_until_it_ends() -> None:
    async def scenario(reads: Reads) -> None:
        given_up = reads.ask("a")
        await reads.until(lambda: reads.begun == ["a"])
        given_up.cancel()
        next_ = reads.ask("a")
        await asyncio.sleep(0.01)
        assert reads.begun == ["a"]
        assert reads.shared.has_its_share("a")
        reads.release("a")
        assert await next_ == "a"

    run(scenario, of_token=1)


def test_a_request_that_is_given_up_while_it_waits_never_begins() -> None:
    async def scenario(reads: Reads) -> None:
        reads.ask("a")
        waiting, last = reads.ask("a"), reads.ask("a")
        await asyncio.sleep(0)
        waiting.cancel()
        reads.release("a")
        await last
        assert reads.begun == ["a", "a"]

    run(scenario, of_token=1)


def test_a_turn_that_comes_as_its_request_is_given_up_goes_to_the_next() -> None:
    async def scenario(reads: Reads) -> None:
        first, waiting, last = (reads.ask("a") for _ in range(3))
        reads.release("a")
        await first
        waiting.cancel()
        assert await last == "a"
        await reads.until(lambda: not reads.shared.has_its_share("a"))

    run(scenario, of_token=1)


def test_past_a_number_requests_of_a_token_are_refused_and_those_of_others_are_not() -> None:
    async def scenario(reads: Reads) -> None:
        for _ in range(MOST_WAITING_OF_TOKEN + 2):
            reads.ask("a")
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests) as refused:
            await reads.ask("a")
        assert refused.value.status == 429
        assert int(refused.value.headers["Retry-After"]) > 0
        reads.release("b")
        assert await reads.ask("b") == "b"

    run(scenario)
