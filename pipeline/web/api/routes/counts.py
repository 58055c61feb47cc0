"""Routes of the stats API that count events: in a range, by hour of a day, as a series."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from pipeline.days import count_days, today
from pipeline.reading.stats import Stats
from pipeline.web.api.queries import CountQuery, HourlyQuery, OverviewQuery, SeriesQuery
from pipeline.web.api.response_models import (
    TABLE,
    CountAnswer,
    HourlyAnswer,
    OverviewAnswer,
    SeriesAnswer,
    document_errors,
)
from pipeline.web.api.series import Overview, Series
from pipeline.web.api.table_responses import CsvTable, respond
from pipeline.web.api.threads import ThreadPools


def create_count_routes(stats: Stats, threads: ThreadPools) -> APIRouter:
    """The routes, which read `stats`."""
    router = APIRouter(tags=["counts"], responses=TABLE | document_errors(422))

    @router.get("/stats/count", response_model=CountAnswer)
    async def count(request: Request, query: Annotated[CountQuery, Query()]) -> Response:
        """How often an event happened: today, or in a range of days."""
        first, last = query.days()

        def read() -> Response:
            counted = stats.count(query.event_type, first, last)
            found = {"event_type": query.event_type, "from": first, "to": last, "count": counted}
            return respond(request, found, CsvTable("count", list(found), [list(found.values())]))

        return await threads.run_lookup(request.state.key.id, count_days(first, last), read)

    @router.get("/stats/hourly", response_model=HourlyAnswer)
    async def hourly(request: Request, query: Annotated[HourlyQuery, Query()]) -> Response:
        """How often an event happened in each hour (UTC) of a day."""
        day = query.date or today()

        def read() -> Response:
            counts = stats.hourly_counts(query.event_type, day)
            rows = [(f"{hour:02}:00", n) for hour, n in enumerate(counts)]
            found = {"event_type": query.event_type, "date": day, "counts": counts}
            return respond(request, found, CsvTable("hourly", ("hour", "count"), rows))

        return await threads.run_lookup(request.state.key.id, 24, read)

    @router.get("/stats/series", response_model=SeriesAnswer, responses=document_errors(409))
    async def series(request: Request, query: Annotated[SeriesQuery, Query()]) -> Response:
        """How often an event happened, by quarter hour, hour, day, week or month of a time zone."""
        wanted = Series(query)

        def read() -> Response:
            found, rows = wanted.read(stats)
            columns = ("period", "at", "count") if query.compare else ("at", "count")
            return respond(request, found, CsvTable("series", columns, rows))

        return await threads.run_lookup(request.state.key.id, wanted.count_counters(), read)

    @router.get("/stats/overview", response_model=OverviewAnswer, responses=document_errors(409))
    async def overview(request: Request, query: Annotated[OverviewQuery, Query()]) -> Response:
        """How often events of all types happened, together by time, and of each type in all: one
        read for what would be a series and a count for each of many types."""
        wanted = Overview(query)

        def read() -> Response:
            found, rows = wanted.read(stats)
            columns = ("event_type", "count", "previous")[: 3 if query.compare else 2]
            return respond(request, found, CsvTable("overview", columns, rows))

        return await threads.run_scan(request.state.key.id, read)

    return router
