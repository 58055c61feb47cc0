"""The one ASGI application: collector, browser script, health, and below them the stats API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.producer.app import check_durability
from pipeline.web.api.app import create_stats_api
from pipeline.web.collector.collector import Collector
from pipeline.web.collector.routes import UnknownPath, create_endpoints, find_endpoint
from pipeline.web.collector.static.script import create_script_route
from pipeline.web.dependencies import WebDependencies
from pipeline.web.health import create_health_routes
from pipeline.web.responses import EXCEPTION_HANDLERS


class _Application(Starlette):
    """Starlette without its middleware around the collector's endpoints: that would be a tenth of
    what an event costs, and these endpoints turn every exception into a response themselves."""

    collector_endpoints: Mapping[str, ASGIApp] = {}
    """By path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self.collector_endpoints.get(scope["path"]) if scope["type"] == "http" else None
        if found is None and scope["type"] == "http":
            found, scope = find_endpoint(self.collector_endpoints, scope)
        await (found or super().__call__)(scope, receive, send)


def create_app(dependencies: WebDependencies) -> Starlette:
    """The application; opens no connection before it starts.

    Requests that match none of the routes here go to the stats API, so that the collector's
    `/api/event` is found first. The API's lifespan runs within that of this application.
    """
    collector = Collector(dependencies)
    stats_api = create_stats_api(dependencies)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        check_durability()
        async with collector.running(), stats_api.router.lifespan_context(stats_api):
            yield

    app = _Application(
        routes=[create_script_route(), *create_health_routes(dependencies)],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.collector_endpoints = create_endpoints(collector)
    # Not mounted: Starlette's mounts do not match a path that holds a newline, as a value may.
    app.router.default = _Otherwise(stats_api, UnknownPath(collector))
    app.router.redirect_slashes = False
    return app


class _Otherwise:
    """The stats API, and for what is sent to a path that it does not have, who says so."""

    def __init__(self, stats_api: Starlette, unknown_path: ASGIApp) -> None:
        self._stats_api, self._unknown_path = stats_api, unknown_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_sent = scope["type"] == "http" and scope["method"] in ("POST", "OPTIONS")
        is_unknown = is_sent and not _has_route(self._stats_api.routes, scope)
        await (self._unknown_path if is_unknown else self._stats_api)(scope, receive, send)


def _has_route(routes: Sequence[BaseRoute], scope: Scope) -> bool:
    return any(route.matches(scope)[0] is not Match.NONE for route in routes)
