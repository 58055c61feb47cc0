"""Blocking calls for asynchronous routes: in a bounded number of threads, and with a timeout.

Each thread has at most one connection to Postgres. A server that accepts connections and says
nothing keeps its threads until it speaks again, so they are bounded, and requests do not wait for
them: they are refused, and may try again. Answers are rendered in these threads too: the event
loop, which serves the collector as well, does no work that grows with an answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import redis
from sqlalchemy import Engine
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from pipeline.errors import InvalidConfiguration, RedisWentBack, ServerUnavailable
from pipeline.postgres.fitness import report_misfit
from pipeline.postgres.limits import limit_statements
from pipeline.redis.client import RETRY_LATER
from pipeline.server_errors import find_server, report_errors
from pipeline.web.api.shared_threads import SharedThreads
from pipeline.web.api.yielding import yielding_often
from pipeline.web.errors import Unavailable

LOOKUP_TIMEOUT_S = 4.0
SCAN_TIMEOUT_S = 10.0
JOB_TIMEOUT_S = 120.0
MOST_LOOKED_UP = 1_000
"""Counters that a lookup asks for; what asks for more is a scan."""
_LOOKUP_THREADS, _LOOKUPS_OF_TOKEN = 6, 2
_SCAN_THREADS, _SCANS_OF_TOKEN = 3, 1
_JOB_THREADS, _JOBS_OF_TOKEN = 2, 1

_Result = TypeVar("_Result")

logger = logging.getLogger(__name__)


class ThreadPools:
    """Threads for one Redis and one Postgres. Every method raises `Unavailable` when one of them is
    away or takes too long, `TooManyRequests` when the read token has too much in work; `token_id`
    is the id of the token's record."""

    def __init__(self, client: redis.Redis, engine: Engine) -> None:
        self._client, self._engine = client, engine
        self._lookups = SharedThreads("lookups", _LOOKUP_THREADS, _LOOKUPS_OF_TOKEN)
        self._scans = SharedThreads("scans", _SCAN_THREADS, _SCANS_OF_TOKEN)
        self._jobs = SharedThreads("jobs", _JOB_THREADS, _JOBS_OF_TOKEN)

    async def run_lookup(
        self, token_id: str, counters: int, read: Callable[[], _Result]
    ) -> _Result:
        """What `read` returns, which looks up so many counters."""
        if counters > MOST_LOOKED_UP:
            return await self.run_scan(token_id, read)
        return await self._run(self._lookups, token_id, LOOKUP_TIMEOUT_S, read)

    async def run_scan(self, token_id: str, read: Callable[[], _Result]) -> _Result:
        """What `read` returns, which goes through many rows; lookups do not wait for it. None of
        its statements outlives the request by more than its own time."""

        def run() -> _Result:
            with yielding_often(), limit_statements(SCAN_TIMEOUT_S):
                return read()

        return await self._run(self._scans, token_id, SCAN_TIMEOUT_S, run)

    async def run_job(self, token_id: str, job: Callable[[], _Result]) -> _Result:
        """What `job` returns, which changes something and may take a minute. Whether both servers
        answer is checked first, within seconds."""
        await self.run_lookup(token_id, 0, self._check_servers)
        return await self._run(self._jobs, token_id, JOB_TIMEOUT_S, _yield_often(job))

    def close(self) -> None:
        """Let go of the threads; those that still read end when they have."""
        for pool in (self._lookups, self._scans, self._jobs):
            pool.close()

    async def _run(
        self, pool: SharedThreads, token_id: str, timeout_s: float, work: Callable[[], _Result]
    ) -> _Result:
        try:
            async with asyncio.timeout(timeout_s):
                return await pool.run(token_id, partial(self._run_reported, work))
        except TimeoutError as error:
            # Those of the token's reads that began before may be what was waited for; they wait for
            # the servers themselves, or there are many of them.
            raise Unavailable(
                f"Redis and Postgres did not answer within {timeout_s:g} s; try again shortly, and "
                "with fewer requests at once"
            ) from error

    def _run_reported(self, work: Callable[[], _Result]) -> _Result:
        try:
            with (
                report_errors(redis=self._client, postgres=self._engine),
                report_misfit(self._engine),
            ):
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


def _yield_often(work: Callable[[], _Result]) -> Callable[[], _Result]:
    def run() -> _Result:
        with yielding_often():
            return work()

    return run


def _describe_outage(error: Exception) -> Unavailable:
    server = find_server(error) or "Redis or Postgres"
    what = "does not answer" if isinstance(error, ServerUnavailable) else "cannot be used now"
    return Unavailable(f"{server} {what}; try again shortly")
