"""The one ASGI application: collector, browser script, health, dashboard, and below them the stats
API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.producer.app import check_durability
from pipeline.traces import exporting
from pipeline.web.api.app import create_stats_api
from pipeline.web.api.threads import ThreadPools
from pipeline.web.collector.collector import Collector
from pipeline.web.collector.routes import UnknownPath, create_endpoints, find_endpoint
from pipeline.web.collector.static.script import create_script_route
from pipeline.web.dashboard.app import create_dashboard
from pipeline.web.dashboard.paths import HOME
from pipeline.web.dependencies import WebDependencies
from pipeline.web.health import create_health_routes
from pipeline.web.responses import EXCEPTION_HANDLERS


class Application(Starlette):
    """Starlette without its middleware around the collector's endpoints: that would be a tenth of
    what an event costs, and these endpoints turn every exception into a response themselves."""

    collector_endpoints: Mapping[str, ASGIApp] = {}
    """By path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self.collector_endpoints.get(scope["path"]) if scope["type"] == "http" else None
        if found is None and scope["type"] == "http":
            found, scope = find_endpoint(self.collector_endpoints, scope)
        await (found or super().__call__)(scope, receive, send)

    def find_path(self, scope: Scope) -> str:
        """The path of the collector's that a request is for, without key and id; "" for none."""
        found, inner = find_endpoint(self.collector_endpoints, scope)
        return str(inner["path"]) if found else ""


def create_app(dependencies: WebDependencies) -> Application:
    """The application; opens no connection before it starts.

    Requests that match none of the routes here go to the stats API, so that the collector's
    `/api/event` is found first. The lifespans of API and dashboard run within that of this
    application; the two share their threads, in which each read token has its part.
    """
    collector = Collector(dependencies)
    threads = ThreadPools(dependencies.redis, dependencies.services.engine)
    stats_api = create_stats_api(dependencies, threads)
    dashboard = create_dashboard(dependencies, threads)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        check_durability()
        async with (
            collector.running(),
            stats_api.router.lifespan_context(stats_api),
            dashboard.router.lifespan_context(dashboard),
        ):
            yield
        threads.close()
        exporting.end()

    app = Application(
        routes=[create_script_route(), *create_health_routes(dependencies)],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.collector_endpoints = create_endpoints(collector)
    # Not mounted: Starlette's mounts do not match a path that holds a newline, as a value may.
    app.router.default = _Otherwise(stats_api, dashboard, UnknownPath(collector))
    app.router.redirect_slashes = False
    return app


class _Otherwise:
    """The dashboard below its path; else the stats API. What is sent to a path that neither takes
    anything by is answered by where to send it: a library was given a wrong address."""

    def __init__(self, stats_api: Starlette, dashboard: Starlette, unknown_path: ASGIApp) -> None:
        self._stats_api, self._dashboard = stats_api, dashboard
        self._unknown_path = unknown_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._find(scope)(scope, receive, send)

    def _find(self, scope: Scope) -> ASGIApp:
        if scope["type"] != "http":
            return self._stats_api
        is_sent = scope["method"] in ("POST", "OPTIONS")
        path = scope["path"]
        if path == "/" or f"{path}/".startswith(f"{HOME}/"):
            # Pages are sent nothing, and a browser asks by OPTIONS whether it may.
            posted = {**scope, "method": "POST"}
            is_unknown = is_sent and _match(self._dashboard.routes, posted) is not Match.FULL
            return self._unknown_path if is_unknown else self._dashboard
        is_unknown = is_sent and _match(self._stats_api.routes, scope) is Match.NONE
        return self._unknown_path if is_unknown else self._stats_api


def _match(routes: Sequence[BaseRoute], scope: Scope) -> Match:
    """How well a request fits the route that it fits best."""
    return max((route.matches(scope)[0] for route in routes), key=lambda one: one.value)
