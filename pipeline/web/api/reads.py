"""Blocking reads for asynchronous routes: in a bounded number of threads, and answered in time.

Each thread has at most one connection to Postgres. A server that accepts connections and says
nothing keeps its threads until it speaks again, so they are bounded, and requests do not wait for
them: they are told to come back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

import redis
from sqlalchemy import Engine
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from pipeline.errors import InvalidConfiguration, RedisWentBack, ServerUnavailable
from pipeline.redis.client import RETRY_LATER
from pipeline.server_errors import find_server, report_errors
from pipeline.web.answers import Refused, unavailable

QUICK_WITHIN_S = 4.0
SLOW_WITHIN_S = 10.0
WORK_WITHIN_S = 120.0
_QUICK_THREADS = 6
_SLOW_THREADS = 3
_WORK_THREADS = 2

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")

logger = logging.getLogger(__name__)


class Reads:
    """Runs reads of one Redis and one Postgres. Every method raises `Refused` (503) when one of
    them is away or takes too long."""

    def __init__(self, client: redis.Redis, engine: Engine) -> None:
        self._client, self._engine = client, engine
        self._quick = ThreadPoolExecutor(_QUICK_THREADS, "reads")
        self._slow = ThreadPoolExecutor(_SLOW_THREADS, "slow-reads")
        self._work = ThreadPoolExecutor(_WORK_THREADS, "work")

    async def quick(
        self, read: Callable[_Given, _Found], *args: _Given.args, **named: _Given.kwargs
    ) -> _Found:
        """What `read` returns, which looks up a known number of keys."""
        return await self._run(self._quick, QUICK_WITHIN_S, partial(read, *args, **named))

    async def slow(
        self, read: Callable[_Given, _Found], *args: _Given.args, **named: _Given.kwargs
    ) -> _Found:
        """The same for a read that looks through many rows: it holds up no quick one."""
        return await self._run(self._slow, SLOW_WITHIN_S, partial(read, *args, **named))

    async def work(
        self, work: Callable[_Given, _Found], *args: _Given.args, **named: _Given.kwargs
    ) -> _Found:
        """The same for what changes something and may take a minute. That both servers answer is
        found out first, in seconds."""
        await self.quick(self._look)
        return await self._run(self._work, WORK_WITHIN_S, partial(work, *args, **named))

    def close(self) -> None:
        """Let go of the threads; those that still read end when they have."""
        for pool in (self._quick, self._slow, self._work):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _run(
        self, pool: ThreadPoolExecutor, within_s: float, work: Callable[[], _Found]
    ) -> _Found:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(within_s):
                return await loop.run_in_executor(pool, self._reported, work)
        except TimeoutError as error:
            raise unavailable(
                f"Redis and Postgres did not answer within {within_s:g} s; try again shortly"
            ) from error

    def _reported(self, work: Callable[[], _Found]) -> _Found:
        try:
            with report_errors(redis=self._client, postgres=self._engine):
                return work()
        except (ServerUnavailable, InvalidConfiguration, RedisWentBack) as error:
            # Whoever runs the servers needs addresses and remedies, clients must not have them.
            logger.warning("a request is refused: %s", error)
            raise _away(error) from error
        except (*RETRY_LATER, NoConnectionFree) as error:
            logger.warning("a request is refused: %s", error)
            raise unavailable("Redis or Postgres is busy; try again shortly") from error

    def _look(self) -> None:
        self._client.ping()
        with self._engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")


def _away(error: Exception) -> Refused:
    server = find_server(error) or "Redis or Postgres"
    what = "does not answer" if isinstance(error, ServerUnavailable) else "cannot be used now"
    return unavailable(f"{server} {what}; try again shortly")
