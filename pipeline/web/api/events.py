"""The route of the stats API that shows archived events, page by page."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from pipeline.days import bound_days
from pipeline.event.model import FIELDS, Event
from pipeline.event.pseudonyms import pseudonym
from pipeline.event_log import queries
from pipeline.event_log.queries import Position, Wanted
from pipeline.services import Services
from pipeline.web.api.models import TABLE, EventsAnswer, documented
from pipeline.web.api.queries import EventsQuery, invalid
from pipeline.web.api.reads import Reads
from pipeline.web.api.tables import Table, answer

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Position).decode


def event_routes(services: Services, reads: Reads, secret: str) -> APIRouter:
    """The route; `secret` is what user ids are made pseudonyms with, where they are."""
    router = APIRouter(tags=["events"], responses=TABLE | documented(422))

    @router.get("/events", response_model=EventsAnswer)
    async def events(request: Request, query: Annotated[EventsQuery, Query()]) -> Response:
        """Raw events, newest first, as of the last archive run.

        The next page begins behind the last event of this one, whatever was archived meanwhile.
        A page as CSV names its successor in the header `Link`.
        """
        after = None if query.cursor is None else _position(query.cursor)
        wanted = _wanted(query, secret)
        if query.fresh:
            await reads.work(services.archive_events)
        page, last = await reads.slow(queries.page, services.engine, wanted, query.limit, after)
        cursor = None if last is None else _cursor(last)
        found = {"events": [event.to_dict() for event in page], "next": cursor}
        response = answer(request, found, Table("events", FIELDS, map(_row, page)))
        if cursor is not None:
            following = request.url.include_query_params(cursor=cursor)
            response.headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
        return response

    return router


def _wanted(query: EventsQuery, secret: str) -> Wanted:
    user_id = query.user_id
    if user_id is not None and not query.pseudonym:
        user_id = pseudonym(secret, user_id)
    days = query.range()
    first, end = bound_days(*days) if days else (None, None)
    return Wanted(query.event_type, user_id, first, end)


def _cursor(position: Position) -> str:
    return urlsafe_b64encode(_encode(position)).decode().rstrip("=")


def _position(cursor: str) -> Position:
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        position = _decode(urlsafe_b64decode(padded))
    except (ValueError, msgspec.DecodeError) as error:
        raise invalid(
            "cursor", "is none of ours; give `next` of the page before as it was"
        ) from error
    if position.at.tzinfo is None:
        raise invalid("cursor", "is none of ours; give `next` of the page before as it was")
    return position


def _row(event: Event) -> list[Any]:
    fields = event.to_dict()
    if event.properties is not None:
        fields["properties"] = json.dumps(event.properties, ensure_ascii=False)
    return [fields.get(name) for name in FIELDS]
