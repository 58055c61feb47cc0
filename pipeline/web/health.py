"""Health: whether this process lives, what it can serve, and which version it is.

Collecting needs Redis, and RabbitMQ where that is the broker; reading needs Redis and Postgres. So
a probe that keeps requests away asks for its half: `/readyz?for=collecting` or `?for=reading`.
`/readyz` alone says whether the whole pipeline works, for people and alarms.

No token is needed, so a response says which part is missing and no more. Each has a timeout, and
however often clients ask, the servers are checked once a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version

import redis
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.errors import InvalidConfiguration, PipelineError
from pipeline.postgres import fitness
from pipeline.postgres.ownership import check_owner
from pipeline.services import Services
from pipeline.upkeep.heartbeats import SEEN_WITHIN_S, measure_silence_s
from pipeline.web.dependencies import WebDependencies
from pipeline.web.errors import RETRY_AFTER_S, InvalidParameter
from pipeline.web.headers import NO_STORE
from pipeline.web.responses import error_response, json_response

OK = "ok"
CHECK_TIMEOUT_S = 2.0
_CHECK_INTERVAL_S = 1.0

_NEEDED: dict[str | None, tuple[str, ...]] = {
    None: (),  # everything
    "collecting": ("redis", "broker"),
    "reading": ("redis", "postgres", "migrations"),
}

Checks = dict[str, str]
logger = logging.getLogger(__name__)


def create_health_routes(dependencies: WebDependencies) -> list[Route]:
    """`/livez`, `/readyz` and `/version`."""
    readiness = _Readiness(dependencies.redis, dependencies.services)

    async def livez(_: Request) -> Response:
        return json_response({"status": OK}, headers=NO_STORE)

    async def readyz(request: Request) -> Response:
        purpose = request.query_params.get("for")
        if purpose not in _NEEDED:
            message = f"must be {' or '.join(filter(None, _NEEDED))}, or left out"
            return error_response(InvalidParameter("for", message))
        checks = await readiness.check()
        needed = _NEEDED[purpose] or checks
        checks = {name: said for name, said in checks.items() if name in needed}
        if all(said == OK for said in checks.values()):
            return json_response({"status": OK, "checks": checks}, headers=NO_STORE)
        headers = {**NO_STORE, "Retry-After": str(RETRY_AFTER_S)}
        return json_response({"status": "not ready", "checks": checks}, 503, headers)

    async def version_(_: Request) -> Response:
        return json_response(_versions(), headers={"Cache-Control": "public, max-age=60"})

    return [
        Route("/livez", livez, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/version", version_, methods=["GET"]),
    ]


@cache
def _versions() -> dict[str, str]:
    return {"version": version("analytics-pipeline"), "schema": fitness.NEWEST_VERSION}


class _Readiness:
    """The checks, each in a thread of its own, so that one server which stalls hides no other."""

    def __init__(self, client: redis.Redis, services: Services) -> None:
        self._client, self._services = client, services
        # Two each: what a stalled server holds must not keep the other checks waiting.
        self._of_redis = ThreadPoolExecutor(2, "redis-health")
        self._of_postgres = ThreadPoolExecutor(2, "postgres-health")
        self._of_broker = ThreadPoolExecutor(2, "broker-health")
        self._checked_at_s = -_CHECK_INTERVAL_S
        self._newest: asyncio.Task[Checks] | None = None

    async def check(self) -> Checks:
        """For Redis, Postgres, the migrations, the workers and, where it is the broker, RabbitMQ:
        `ok`, or what is wrong."""
        now_s = time.monotonic()
        is_old = now_s - self._checked_at_s >= _CHECK_INTERVAL_S
        if self._newest is None or (is_old and self._newest.done()):
            self._checked_at_s = now_s
            self._newest = asyncio.create_task(self._check_servers())
        return await asyncio.shield(self._newest)

    async def _check_servers(self) -> Checks:
        checks = [
            self._run_check(self._of_redis, self._check_redis, ("redis", "worker")),
            self._run_check(self._of_postgres, self._check_postgres, ("postgres", "migrations")),
        ]
        if self._services.broker_url is not None:
            checks.append(self._run_check(self._of_broker, self._check_broker, ("broker",)))
        found: Checks = {}
        for one in await asyncio.gather(*checks):
            found |= one
        return found

    async def _run_check(
        self, pool: ThreadPoolExecutor, check: Callable[[], Checks], names: tuple[str, ...]
    ) -> Checks:
        server, *others = names
        unknown = dict.fromkeys(others, "unknown")
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                return await asyncio.get_running_loop().run_in_executor(pool, check)
        except TimeoutError:
            return {server: f"no answer within {CHECK_TIMEOUT_S:g} s"} | unknown
        except (redis.RedisError, SQLAlchemyError, PipelineError) as error:
            logger.warning("not ready: %s", error)
            return {server: "does not answer"} | unknown

    def _check_redis(self) -> Checks:
        silent = measure_silence_s(self._client, self._services.keys).get("events")
        if silent is None or silent > SEEN_WITHIN_S:
            seen = f"no event worker was seen for {SEEN_WITHIN_S} s; start one"
        else:
            seen = OK
        return {"redis": OK, "worker": seen}

    def _check_broker(self) -> Checks:
        self._services.queue_depth()
        return {"broker": OK}

    def _check_postgres(self) -> Checks:
        with self._services.engine.connect() as connection:
            found = fitness.current_version(connection)
            try:
                check_owner(connection)
            except InvalidConfiguration as error:
                logger.warning("not ready: %s", error)
                return {"postgres": "holds another installation's counts", "migrations": "unknown"}
        if found == fitness.NEWEST_VERSION:
            return {"postgres": OK, "migrations": OK}
        if found is not None and fitness.is_newer(found):
            return {"postgres": OK, "migrations": "newer than this program; upgrade it"}
        return {"postgres": OK, "migrations": "not at this version; run `analytics migrate`"}
