"""The route of the stats API that streams counts as they change."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from pipeline.web.access import Access
from pipeline.web.answers import Refused
from pipeline.web.api.live import Live
from pipeline.web.api.models import documented
from pipeline.web.api.queries import LiveQuery
from pipeline.web.credentials import checked, token_of

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `counts` with `{date, counts: {event type: count}}`, "
        "first of all the wanted types, then of those that changed; `unavailable` with `{message}` "
        "while Redis or Postgres does not answer",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def live_routes(live: Live, access: Access) -> APIRouter:
    """The route. It takes the token from the query too, since a browser's EventSource cannot send
    a header."""
    router = APIRouter(tags=["live"])

    @router.get(
        "/stats/live", response_class=StreamingResponse, responses=_STREAM | documented(422)
    )
    async def stream(request: Request, query: Annotated[LiveQuery, Query()]) -> Response:
        """Today's counts (UTC) as they change."""
        token = token_of(request) or query.token or ""
        types = frozenset(query.event_type) or None
        await live.check(types)

        async def still_valid() -> bool:
            try:
                await checked(access, token)
            except Refused as error:
                return error.status != 401  # while Redis is away, nobody is turned out
            return True

        return StreamingResponse(
            live.listen(types, still_valid), headers=_HEADERS, media_type="text/event-stream"
        )

    return router
