"""The route of the stats API that streams counts as they change."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from pipeline.access.key_store import AccessKeyStore
from pipeline.web.api.live_counts import LiveCounts
from pipeline.web.api.queries import LiveQuery
from pipeline.web.api.read_tokens import check_read_token, find_bearer_token
from pipeline.web.api.response_models import document_errors
from pipeline.web.errors import RequestRefused, Unauthorised
from pipeline.web.headers import NO_STORE

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `counts` with `{date, counts: {event type: count}}`, "
        "first of all the wanted types, then of those that changed; `unavailable` with `{message}` "
        "while Redis or Postgres does not answer",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
_HEADERS = NO_STORE | {"X-Accel-Buffering": "no"}


def create_live_route(live: LiveCounts, access_keys: AccessKeyStore) -> APIRouter:
    """The route. It takes the token from the query too, since a browser's EventSource cannot send
    a header."""
    router = APIRouter(tags=["live"])

    @router.get(
        "/stats/live",
        response_class=StreamingResponse,
        responses=_STREAM | document_errors(422, 429),
    )
    async def stream(request: Request, query: Annotated[LiveQuery, Query()]) -> Response:
        """Today's counts (UTC) as they change."""
        token = find_bearer_token(request) or query.token or ""
        types = frozenset(query.event_type) or None
        token_id = request.state.key.id
        await live.check_readable(types, token_id)

        async def still_valid() -> bool:
            try:
                await check_read_token(access_keys, token)
            except Unauthorised:
                return False
            except RequestRefused:
                pass  # while Redis is away, streams that were valid go on
            return True

        return StreamingResponse(
            live.stream(types, token_id, still_valid),
            headers=_HEADERS,
            media_type="text/event-stream",
        )

    return router
