"""The stats API: every number of `pipeline.reading.stats` over HTTP, for holders of a read token.

Routes see paths as they were sent, percent-encoded, so that a `/` in an id differs from one that
ends it.
"""

from __future__ import annotations

from importlib.metadata import version
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.reading.event_types import TypeReader
from pipeline.reading.exact import UnstoredCounts
from pipeline.reading.stats import Stats
from pipeline.web.api.live_counts import LiveCounts
from pipeline.web.api.parameters import explain_validation_errors
from pipeline.web.api.read_tokens import ReadTokenRequired
from pipeline.web.api.routes.breakdowns import create_breakdown_routes
from pipeline.web.api.routes.catalogue import create_catalogue_routes
from pipeline.web.api.routes.counts import create_count_routes
from pipeline.web.api.routes.docs import create_docs_routes
from pipeline.web.api.routes.events import create_event_route
from pipeline.web.api.routes.journeys import create_journey_routes
from pipeline.web.api.routes.live import create_live_route
from pipeline.web.api.routes.people.routes import create_people_routes
from pipeline.web.api.routes.pipeline_state.routes import create_status_routes
from pipeline.web.api.routes.sharing.annotations import create_annotation_routes
from pipeline.web.api.routes.sharing.saved_views import create_saved_view_routes
from pipeline.web.api.routes.sums import create_sum_routes
from pipeline.web.api.routes.users import create_erase_route, create_user_routes
from pipeline.web.api.threads import ThreadPools
from pipeline.web.dependencies import WebDependencies
from pipeline.web.responses import EXCEPTION_HANDLERS, error_response

DESCRIPTION = (
    "Counts of events, exact at any moment, flushed or not. Days and hours are UTC where nothing "
    "else is said; ranges include both ends. Every route needs a read token "
    "(`analytics keys create read`), sent as `Authorization: Bearer rt_…`. Tables are answered "
    "as CSV too, by `format=csv` or the Accept header."
)


def create_stats_api(dependencies: WebDependencies, threads: ThreadPools) -> FastAPI:
    """The application behind `/api`, `/docs` and `/openapi.json`, which reads in `threads`."""

    api = FastAPI(
        title="Analytics",
        description=DESCRIPTION,
        version=version("analytics-pipeline"),
        docs_url=None,
        redoc_url=None,
        # A redirect to the same path without its slash would lead to the Host that a client named.
        redirect_slashes=False,
        # FastAPI's own spans would have paths and queries, and so the ids of users.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        exception_handlers={
            **EXCEPTION_HANDLERS,
            RequestValidationError: _handle_validation_errors,
        },
    )
    token = ReadTokenRequired(dependencies.access_keys, also_in_query="/api/stats/live")
    # Not one router within another: each level costs a request some 20 µs.
    for router in _create_routes(dependencies, threads):
        api.include_router(router, prefix="/api", dependencies=[Depends(token)])
    api.router.routes.extend(create_docs_routes("/openapi.json"))
    api.add_middleware(_PathsAsSent)
    return api


def _create_routes(dependencies: WebDependencies, threads: ThreadPools) -> list[APIRouter]:
    services, secret = dependencies.services, dependencies.options.user_id_secret
    unstored = UnstoredCounts(dependencies.redis, services.keys)
    stats = Stats(unstored, services.engine, services.counters.options.sums)
    types = TypeReader(unstored, services.engine, services.counters.options)
    live = LiveCounts(stats, types, threads, dependencies.stopping)
    return [
        create_count_routes(stats, threads),
        create_breakdown_routes(stats, threads, services),
        create_people_routes(stats, threads, services),
        create_journey_routes(threads, services),
        create_catalogue_routes(types, threads, services),
        create_sum_routes(stats, threads, services.counters.options),
        create_user_routes(stats, threads, secret),
        create_erase_route(threads, services),
        create_live_route(live, dependencies.access_keys),
        create_event_route(threads, services, secret),
        create_annotation_routes(threads, services),
        create_saved_view_routes(threads, services),
        create_status_routes(threads, services),
    ]


async def _handle_validation_errors(_: Request, raised: Exception) -> Response:
    assert isinstance(raised, RequestValidationError)
    return error_response(explain_validation_errors(raised.errors()))


class _PathsAsSent:
    """Has routes match the path as the client sent it, still percent-encoded."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw = scope.get("raw_path")
            path = raw.decode("ascii", "replace").partition("?")[0] if raw else quote(scope["path"])
            found = {**scope, "path": path}
            try:
                await self._app(found, receive, send)
            finally:
                scope["route"] = found.get("route")  # as Starlette leaves it
            return
        await self._app(scope, receive, send)
