"""Raw events page by page, and as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.access.access_key import AccessKey
from pipeline.csv_tables import format_csv
from pipeline.errors import QuestionTooLarge
from pipeline.event.model import FIELDS
from pipeline.reading.raw.pages import read_archived, read_newest_archived
from pipeline.web.api.routes.events import list_fields
from pipeline.web.cursors import decode_cursor, encode_cursor
from pipeline.web.dashboard.dashboard import Dashboard
from pipeline.web.dashboard.event_rows import list_event_rows
from pipeline.web.dashboard.explore.search import PARAMETERS, make_filter, write_command
from pipeline.web.dashboard.page import Asked, Page, Sources
from pipeline.web.dashboard.paths import EXPLORE, EXPLORE_CSV
from pipeline.web.dashboard.session.security import PAGE_HEADERS
from pipeline.web.dashboard.state import parse_state
from pipeline.web.errors import RequestRefused

EVENTS_OF_A_PAGE = 50
MOST_IN_CSV = 10_000
"""Some megabytes; the command has no such bound."""
_PROPOSED_TYPES = 100


def read_explore(sources: Sources, asked: Asked) -> Mapping[str, Any]:
    """A page of events, and where the next one begins."""
    cursor = asked.read_own("cursor", 200)
    after = decode_cursor(cursor) if cursor else None
    wanted = make_filter(sources, asked)
    found = read_archived(sources.services.engine, wanted, EVENTS_OF_A_PAGE, after)
    # The links of this page begin with its first events; one alone goes on behind these.
    own = {name: asked.query[name] for name in ("user", "where") if asked.query.get(name)}

    def url(own_changes: Mapping[str, str] | None = None, **changes: Any) -> str:
        return asked.state.url(EXPLORE, {**own, **(own_changes or {})}, **changes)

    return {
        "own": own,
        "url": url,
        "days": asked.state.days(asked.now),
        "rows": list_event_rows(found.events, asked.state, asked.now),
        "as_of": found.as_of,
        "is_first": after is None,
        "next_url": url({"cursor": encode_cursor(found.last)}) if found.last else "",
        "csv_url": asked.state.url(EXPLORE_CSV, own),
        "most_in_csv": MOST_IN_CSV,
        "command": write_command(asked),
        "types": sorted(sources.types.count_largest(asked.now.date(), _PROPOSED_TYPES)),
    }


PAGE = Page(
    path=EXPLORE,
    title="Explore",
    template="explore/explore.html",
    read=read_explore,
    parameters=PARAMETERS,
    is_scan=True,
)


def create_explore_routes(dashboard: Dashboard) -> Sequence[Route]:
    """The page, and the same events as a file."""

    async def respond(request: Request, viewer: AccessKey) -> Response:
        query = dict(request.query_params)
        now = datetime.now(UTC)
        asked = Asked(parse_state(query, now, PARAMETERS), query, viewer, now, "")
        work = partial(_make_csv, dashboard.sources, asked)
        return await dashboard.threads.run_scan(viewer.id, work)

    return [dashboard.create_page(PAGE), dashboard.create_route(EXPLORE_CSV, respond)]


def _make_csv(sources: Sources, asked: Asked) -> Response:
    wanted = make_filter(sources, asked)
    try:
        rows = map(list_fields, read_newest_archived(sources.services.engine, wanted, MOST_IN_CSV))
        body = format_csv(FIELDS, rows)
    except QuestionTooLarge as error:
        raise RequestRefused(422, "unanswerable", str(error)) from error
    headers = PAGE_HEADERS | {"Content-Disposition": 'attachment; filename="events.csv"'}
    return Response(body, headers=headers, media_type="text/csv")
