"""The dashboard as an application: its pages, its files, and what refuses a request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from pipeline.access.sessions import SessionStore
from pipeline.reading.event_types import TypeReader
from pipeline.reading.exact import UnstoredCounts
from pipeline.reading.stats import Stats
from pipeline.web.api.threads import ThreadPools
from pipeline.web.dashboard.assets.assets import create_asset_route
from pipeline.web.dashboard.dashboard import Dashboard, show_error
from pipeline.web.dashboard.event_type.routes import create_event_type_routes
from pipeline.web.dashboard.explore.routes import create_explore_routes
from pipeline.web.dashboard.journeys.funnels import create_funnel_routes
from pipeline.web.dashboard.journeys.retention import create_retention_routes
from pipeline.web.dashboard.live.routes import create_live_routes
from pipeline.web.dashboard.overview.routes import create_overview_routes
from pipeline.web.dashboard.page import Sources
from pipeline.web.dashboard.paths import HOME
from pipeline.web.dashboard.pipeline.routes import create_pipeline_routes
from pipeline.web.dashboard.session.routes import create_session_routes
from pipeline.web.dashboard.session.security import PAGE_HEADERS
from pipeline.web.dashboard.session.viewers import Viewers
from pipeline.web.dashboard.sharing.annotations import create_annotation_routes
from pipeline.web.dashboard.sharing.saved_views import create_saved_view_routes
from pipeline.web.dashboard.user.routes import create_user_routes
from pipeline.web.dependencies import WebDependencies
from pipeline.web.errors import InternalFault, RequestRefused


def create_dashboard(dependencies: WebDependencies, threads: ThreadPools) -> Starlette:
    """The application behind `/dashboard`, to which `/` leads. Its routes have whole paths."""
    services, access_keys = dependencies.services, dependencies.access_keys
    unstored = UnstoredCounts(dependencies.redis, services.keys)
    sources = Sources(
        services,
        Stats(unstored, services.engine, services.counters.options.sums),
        TypeReader(unstored, services.engine, services.counters.options),
    )
    viewers = Viewers(SessionStore(dependencies.redis, services.keys), access_keys)
    dashboard = Dashboard(sources, threads, viewers)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        viewers.close()

    # Pages are in the navigation in this order.
    routes = [
        Route("/", _show_way),
        *create_session_routes(viewers),
        create_asset_route(),
        Route(f"{HOME}/", _lead_home, methods=["GET"]),
        *create_overview_routes(dashboard),
        *create_event_type_routes(dashboard),
        *create_user_routes(dashboard),
        *create_live_routes(dashboard, dependencies),
        *create_explore_routes(dashboard),
        *create_funnel_routes(dashboard),
        *create_retention_routes(dashboard),
        *create_pipeline_routes(dashboard, dependencies.options.user_id_secret),
        *create_annotation_routes(dashboard),
        *create_saved_view_routes(dashboard),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            RequestRefused: _show_refused,
            HTTPException: _show_http_exception,
            Exception: _show_fault,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


async def _show_way(_: Request) -> Response:
    return RedirectResponse(HOME, 307)


async def _lead_home(_: Request) -> Response:
    return RedirectResponse(HOME, 308, PAGE_HEADERS)


async def _show_refused(_: Request, raised: Exception) -> Response:
    assert isinstance(raised, RequestRefused)
    return show_error(raised)


async def _show_http_exception(_: Request, raised: Exception) -> Response:
    assert isinstance(raised, HTTPException)
    said = "there is no such page" if raised.status_code == 404 else raised.detail
    headers = raised.headers
    return show_error(RequestRefused(raised.status_code, "http", said, headers=headers))


async def _show_fault(_: Request, raised: Exception) -> Response:
    return show_error(InternalFault())
