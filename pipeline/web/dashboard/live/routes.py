"""The Live page and its stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from pipeline.access.access_key import AccessKey
from pipeline.web.dashboard.dashboard import Dashboard
from pipeline.web.dashboard.live.feed import LiveFeed, View
from pipeline.web.dashboard.live.numbers import LiveReader
from pipeline.web.dashboard.live.parts import draw_parts
from pipeline.web.dashboard.page import Asked, Page, Sources
from pipeline.web.dashboard.paths import LIVE, LIVE_STREAM
from pipeline.web.dashboard.session.security import PAGE_HEADERS
from pipeline.web.dashboard.state import PageState, parse_state
from pipeline.web.dependencies import WebDependencies
from pipeline.web.errors import RequestRefused

_HEADERS = PAGE_HEADERS | {"X-Accel-Buffering": "no"}


def create_live_routes(dashboard: Dashboard, dependencies: WebDependencies) -> Sequence[Route]:
    """The page and its stream, which share what they read."""
    reader = LiveReader(dashboard.sources, dependencies.redis)
    feed = LiveFeed(reader, dashboard.threads, dependencies.stopping)

    def read_live(_: Sources, asked: Asked) -> Mapping[str, Any]:
        numbers = reader.read(asked.state.event_type)
        state = PageState(zone=asked.state.zone, event_type=asked.state.event_type)
        return {
            "read_at": numbers.at,
            "parts": draw_parts(numbers, state),
            "stream_url": state.url(LIVE_STREAM),
        }

    async def stream(request: Request, viewer: AccessKey) -> Response:
        state = parse_state(dict(request.query_params), datetime.now(UTC))
        if request.method == "HEAD":  # has no end to wait for
            return Response(headers=_HEADERS, media_type="text/event-stream")
        view = View(state.zone, state.event_type)
        feed.check_room(view, viewer.id)

        async def still_valid() -> bool:
            try:
                found = await dashboard.viewers.find(request)
            except RequestRefused:  # Redis is away, or many are asked for at once
                return dashboard.viewers.find_known(request) is not None
            return found is not None and found.id == viewer.id

        return StreamingResponse(
            feed.stream(view, viewer.id, still_valid),
            headers=_HEADERS,
            media_type="text/event-stream",
        )

    page = Page(path=LIVE, title="Live", template="live/live.html", read=read_live)
    return [dashboard.create_page(page), dashboard.create_route(LIVE_STREAM, stream)]
