"""The stats API: every number of `pipeline.reading.stats` over HTTP, for holders of a read token.

Routes see paths as they were sent, percent-encoded, so that a `/` in an id is told from one that
ends it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.counting.apply import Counters
from pipeline.reading.exact import UnstoredCounts
from pipeline.reading.stats import Stats
from pipeline.web import answers
from pipeline.web.api.counts import count_routes
from pipeline.web.api.docs import docs_routes
from pipeline.web.api.events import event_routes
from pipeline.web.api.live import Live
from pipeline.web.api.live_route import live_routes
from pipeline.web.api.queries import explained
from pipeline.web.api.reads import Reads
from pipeline.web.api.users import user_routes
from pipeline.web.credentials import Reader
from pipeline.web.parts import WebParts

DESCRIPTION = (
    "Counts of events, exact at any moment, flushed or not. Days and hours are UTC where nothing "
    "else is said; ranges include both ends. Every route needs a read token "
    "(`analytics keys create read`), sent as `Authorization: Bearer rt_…`. Tables are answered "
    "as CSV too, by `format=csv` or the Accept header."
)


def stats_api(parts: WebParts) -> FastAPI:
    """The application behind `/api`, `/docs` and `/openapi.json`."""
    services, secret = parts.services, parts.options.user_id_secret
    reads = Reads(parts.redis, services.engine)
    counters = Counters(parts.redis, services.keys, services.counters.options)
    stats = Stats(UnstoredCounts(parts.redis, services.keys), services.engine)
    live = Live(stats, counters, reads, parts.stopping)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        reads.close()

    api = FastAPI(
        title="Analytics",
        description=DESCRIPTION,
        version=version("analytics-pipeline"),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers={
            answers.Refused: answers.refused,
            RequestValidationError: _validation_failed,
            HTTPException: answers.http_error,
            Exception: answers.fault,
        },
    )
    reader = Reader(parts.access, also_in_query="/api/stats/live")
    # Not one router within another: each level costs a request some 20 µs.
    for router in (
        count_routes(stats, reads, services),
        user_routes(stats, reads, services, secret),
        live_routes(live, parts.access),
        event_routes(services, reads, secret),
    ):
        api.include_router(router, prefix="/api", dependencies=[Depends(reader)])
    api.router.routes.extend(docs_routes("/openapi.json"))
    api.add_middleware(_PathsAsSent)
    return api


async def _validation_failed(_: Request, raised: Exception) -> Response:
    assert isinstance(raised, RequestValidationError)
    return explained(raised.errors()).response()


class _PathsAsSent:
    """Has routes match the path as the client sent it, still percent-encoded."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw = scope.get("raw_path")
            path = raw.decode("ascii", "replace").partition("?")[0] if raw else quote(scope["path"])
            scope = {**scope, "path": path}
        await self._app(scope, receive, send)
