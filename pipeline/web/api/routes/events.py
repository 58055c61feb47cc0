"""The route of the stats API that lists archived events, page by page."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from pipeline.days import bound_days
from pipeline.event.model import FIELDS, Event
from pipeline.event.pseudonyms import list_forms
from pipeline.event_log import queries
from pipeline.event_log.queries import EventFilter
from pipeline.services import Services
from pipeline.web.api.queries import EventsQuery
from pipeline.web.api.response_models import TABLE, EventsAnswer, document_errors
from pipeline.web.api.table_responses import CsvTable, respond
from pipeline.web.api.threads import ThreadPools
from pipeline.web.cursors import decode_cursor, encode_cursor


def create_event_route(threads: ThreadPools, services: Services, secret: str) -> APIRouter:
    """The route; `secret` pseudonymises user ids and is empty where they are not."""
    router = APIRouter(tags=["events"], responses=TABLE | document_errors(422))

    @router.get("/events", response_model=EventsAnswer)
    async def events(request: Request, query: Annotated[EventsQuery, Query()]) -> Response:
        """Raw events, newest first, as of the last archive run.

        The next page begins behind the last event of this one, whatever was archived meanwhile.
        A page as CSV names its successor in the header `Link`.
        """
        after = None if query.cursor is None else decode_cursor(query.cursor)
        wanted = _select_events(query, secret)
        if query.fresh:
            await threads.run_job(request.state.key.id, services.archive_events)

        def read() -> Response:
            page, last = queries.read_page(services.engine, wanted, query.limit, after)
            cursor = None if last is None else encode_cursor(last)
            found = {"events": [event.to_dict() for event in page], "next": cursor}
            response = respond(request, found, CsvTable("events", FIELDS, map(list_fields, page)))
            if cursor is not None:
                following = request.url.include_query_params(cursor=cursor)
                response.headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
            return response

        return await threads.run_scan(request.state.key.id, read)

    return router


def _select_events(query: EventsQuery, secret: str) -> EventFilter:
    others: tuple[str, ...] = ()
    if query.user_id is not None and not query.pseudonym:
        others = list_forms(secret, query.user_id)[1:]
    days = query.range()
    first, end = bound_days(*days) if days else (None, None)
    return EventFilter(query.event_type, query.user_id, first, end, others)


def list_fields(event: Event) -> list[Any]:
    """An event as a row of `FIELDS`."""
    fields = event.to_dict()
    if event.properties is not None:
        fields["properties"] = json.dumps(event.properties, ensure_ascii=False)
    return [fields.get(name) for name in FIELDS]
