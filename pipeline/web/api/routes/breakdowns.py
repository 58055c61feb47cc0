"""Routes of the stats API that break counts down: the users or values with the most events, and
the counts of one value."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from pipeline.days import count_days
from pipeline.reading.stats import Ranking, Stats
from pipeline.services import Services
from pipeline.web.api.parameters import PropertyInPath, ValueInPath
from pipeline.web.api.queries import PropertyQuery, TopQuery
from pipeline.web.api.response_models import TABLE, PropertyAnswer, TopAnswer, document_errors
from pipeline.web.api.table_responses import CACHE_SHORTLY, REVALIDATE, CsvTable, respond
from pipeline.web.api.threads import ThreadPools


def create_breakdown_routes(stats: Stats, threads: ThreadPools, services: Services) -> APIRouter:
    """The routes, which read `stats`; `services` flushes where a fresh ranking is asked for."""
    router = APIRouter(tags=["counts"], responses=TABLE | document_errors(422))

    def is_counted(event_type: str, name: str) -> bool:
        return name in services.options.counters.count_by.get(event_type, ())

    @router.get("/stats/top", response_model=TopAnswer)
    async def top(request: Request, query: Annotated[TopQuery, Query()]) -> Response:
        """The users, or values of a property, with the most events, as of the last flush."""
        if query.fresh:
            await threads.run_job(request.state.key.id, services.flush)

        def read() -> Response:
            ranking = _rank(stats, query)
            found: dict[str, Any] = {
                "event_type": query.event_type,
                "of": query.of,
                "as_of": ranking.as_of,
                "top": [{"value": value, "count": n} for value, n in ranking.top],
            }
            if query.of != "user" and not is_counted(query.event_type, query.of):
                found["counted"] = False
            table = CsvTable("top", ("value", "count"), ranking.top)
            return respond(request, found, table, REVALIDATE if query.fresh else CACHE_SHORTLY)

        return await threads.run_scan(request.state.key.id, read)

    @router.get("/properties/{name}/{value:path}/counts", response_model=PropertyAnswer)
    async def values(
        request: Request,
        name: Annotated[PropertyInPath, Path(description="Name of the property")],
        value: Annotated[ValueInPath, Path(description="Its value; a `/` in it as `%2F`")],
        query: Annotated[PropertyQuery, Query()],
    ) -> Response:
        """How often a property of an event had a value, by day."""
        (first, last), event_type = query.days(), query.event_type

        def read() -> Response:
            days = stats.property_counts(event_type, name, value, first, last)
            found = {
                "event_type": event_type,
                "property": name,
                "value": value,
                "from": first,
                "to": last,
                "count": sum(n for _, n in days),
                "days": [{"date": day, "count": n} for day, n in days],
                "counted": is_counted(event_type, name),
            }
            return respond(request, found, CsvTable("values", ("date", "count"), days))

        return await threads.run_lookup(request.state.key.id, count_days(first, last), read)

    return router


def _rank(stats: Stats, query: TopQuery) -> Ranking:
    first, last = query.range() or (None, None)
    return stats.top(query.event_type, query.of, first, last, query.limit)
