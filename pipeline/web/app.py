"""The one ASGI application: collector, browser script, health, and below them the stats API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from pipeline.web import answers
from pipeline.web.api import stats_api
from pipeline.web.collector import Collector
from pipeline.web.health import health_routes
from pipeline.web.parts import WebParts
from pipeline.web.script import script_routes


def create_app(parts: WebParts) -> Starlette:
    """The application; opens no connection before it starts.

    What none of the routes here is asked for goes to the stats API, so that the collector's
    `/api/event` is found first. Its lifespan runs within that of this application.
    """
    collector = Collector(parts)
    stats = stats_api(parts)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with collector.running(), stats.router.lifespan_context(stats):
            yield

    app = Starlette(
        routes=[*collector.routes(), *script_routes(), *health_routes(parts)],
        exception_handlers={
            answers.Refused: answers.refused,
            HTTPException: answers.http_error,
            Exception: answers.fault,
        },
        lifespan=lifespan,
    )
    # Not mounted: Starlette's mounts do not match a path that holds a newline, as a value may.
    app.router.default = stats
    app.router.redirect_slashes = False
    return app
