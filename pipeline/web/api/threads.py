"""Blocking calls for asynchronous routes: in a bounded number of threads, and with a timeout.

Each thread has at most one connection to Postgres. A server that accepts connections and says
nothing keeps its threads until it speaks again, so they are bounded, and requests do not wait for
them: they are refused, and may try again.
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
from pipeline.web.errors import Unavailable

LOOKUP_TIMEOUT_S = 4.0
SCAN_TIMEOUT_S = 10.0
JOB_TIMEOUT_S = 120.0
_LOOKUP_THREADS = 6
_SCAN_THREADS = 3
_JOB_THREADS = 2

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")

logger = logging.getLogger(__name__)


class ThreadPools:
    """Threads for one Redis and one Postgres. Every method raises `Unavailable` when one of them is
    away or takes too long."""

    def __init__(self, client: redis.Redis, engine: Engine) -> None:
        self._client, self._engine = client, engine
        self._lookups = ThreadPoolExecutor(_LOOKUP_THREADS, "lookups")
        self._scans = ThreadPoolExecutor(_SCAN_THREADS, "scans")
        self._jobs = ThreadPoolExecutor(_JOB_THREADS, "jobs")

    async def run_lookup(
        self, read: Callable[_Args, _Result], *args: _Args.args, **named: _Args.kwargs
    ) -> _Result:
        """What `read` returns, which looks up a known number of keys."""
        return await self._run(self._lookups, LOOKUP_TIMEOUT_S, partial(read, *args, **named))

    async def run_scan(
        self, read: Callable[_Args, _Result], *args: _Args.args, **named: _Args.kwargs
    ) -> _Result:
        """What `read` returns, which goes through many rows; lookups do not wait for it."""
        return await self._run(self._scans, SCAN_TIMEOUT_S, partial(read, *args, **named))

    async def run_job(
        self, job: Callable[_Args, _Result], *args: _Args.args, **named: _Args.kwargs
    ) -> _Result:
        """What `job` returns, which changes something and may take a minute. Whether both servers
        answer is checked first, within seconds."""
        await self.run_lookup(self._check_servers)
        return await self._run(self._jobs, JOB_TIMEOUT_S, partial(job, *args, **named))

    def close(self) -> None:
        """Let go of the threads; those that still read end when they have."""
        for pool in (self._lookups, self._scans, self._jobs):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _run(
        self, pool: ThreadPoolExecutor, timeout_s: float, work: Callable[[], _Result]
    ) -> _Result:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                return await loop.run_in_executor(pool, self._run_reported, work)
        except TimeoutError as error:
            raise Unavailable(
                f"Redis and Postgres did not answer within {timeout_s:g} s; try again shortly"
            ) from error

    def _run_reported(self, work: Callable[[], _Result]) -> _Result:
        try:
            with report_errors(redis=self._client, postgres=self._engine):
                return work()
        except (ServerUnavailable, InvalidConfiguration, RedisWentBack) as error:
            # The log gets addresses and remedies, which clients must not have.
            logger.warning("a request is refused: %s", error)
            raise _describe_outage(error) from error
        except (*RETRY_LATER, NoConnectionFree) as error:
            logger.warning("a request is refused: %s", error)
            raise Unavailable("Redis or Postgres is busy; try again shortly") from error

    def _check_servers(self) -> None:
        self._client.ping()
        with self._engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")


def _describe_outage(error: Exception) -> Unavailable:
    server = find_server(error) or "Redis or Postgres"
    what = "does not answer" if isinstance(error, ServerUnavailable) else "cannot be used now"
    return Unavailable(f"{server} {what}; try again shortly")
