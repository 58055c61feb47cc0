"""The one ASGI application: collector, browser script, health, and below them the stats API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.web import answers
from pipeline.web.api.app import stats_api
from pipeline.web.collector.collector import Collector
from pipeline.web.collector.script import script_routes
from pipeline.web.health import health_routes
from pipeline.web.parts import WebParts


class _Application(Starlette):
    """Starlette, but for the collector's routes: its layers would be a tenth of what an event
    costs, and those routes answer for what goes wrong themselves."""

    doors: Mapping[str, ASGIApp] = {}
    """By path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door = self.doors.get(scope["path"]) if scope["type"] == "http" else None
        await (door or super().__call__)(scope, receive, send)


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

    doors = collector.routes()
    app = _Application(
        routes=[*doors, *script_routes(), *health_routes(parts)],
        exception_handlers={
            answers.Refused: answers.refused,
            HTTPException: answers.http_error,
            Exception: answers.fault,
        },
        lifespan=lifespan,
    )
    app.doors = {door.path: door.app for door in doors}
    # Not mounted: Starlette's mounts do not match a path that holds a newline, as a value may.
    app.router.default = stats
    app.router.redirect_slashes = False
    return app
