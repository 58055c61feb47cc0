"""Routes of the stats API that count people, as of the last flush: distinct users, active ones, and
those who come back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from pipeline.days import today
from pipeline.errors import TooManyPeriods
from pipeline.reading.journeys.retention import RetentionQuestion
from pipeline.reading.journeys.steps import read_plain_types
from pipeline.reading.people.users import Users
from pipeline.reading.stats import Stats
from pipeline.services import Services
from pipeline.web.api.archive_questions import ArchiveQuestions, refuse_invalid
from pipeline.web.api.journey_models import REPORT
from pipeline.web.api.response_models import TABLE, document_errors
from pipeline.web.api.routes.people.models import (
    ActiveAnswer,
    ActiveQuery,
    RetentionAnswer,
    RetentionQuery,
    UsersAnswer,
    UsersQuery,
)
from pipeline.web.api.table_responses import CACHE_SHORTLY, REVALIDATE, CsvTable, respond
from pipeline.web.api.threads import ThreadPools
from pipeline.web.errors import InvalidParameter

_COLUMNS = ("users", "new", "returning")


def create_people_routes(stats: Stats, threads: ThreadPools, services: Services) -> APIRouter:
    """The routes, which read `stats`; `services` flushes where a fresh answer is asked for."""
    router = APIRouter(tags=["people"], responses=TABLE | document_errors(422))

    async def scan(request: Request, fresh: bool, read: Callable[[str], Response]) -> Response:
        token_id = request.state.key.id
        if fresh:
            await threads.run_job(token_id, services.flush)
        cache = REVALIDATE if fresh else CACHE_SHORTLY
        return await threads.run_scan(token_id, lambda: read(cache))

    _add_users_route(router, stats, scan)
    _add_active_route(router, stats, scan)
    _add_retention_route(router, stats, scan, ArchiveQuestions(threads, services))
    return router


Scan = Callable[[Request, bool, Callable[[str], Response]], Awaitable[Response]]
"""Flushes first where that is asked for, and makes a response, which is given how long it may be
kept, in a thread."""


def _add_users_route(router: APIRouter, stats: Stats, scan: Scan) -> None:
    @router.get("/stats/users", response_model=UsersAnswer)
    async def users(request: Request, query: Annotated[UsersQuery, Query()]) -> Response:
        """How many people did one of these events, or any: in all, new and returning."""
        (first, last), types = query.days(), sorted(set(query.event_type))

        def read(cache: str) -> Response:
            found: dict[str, Any] = {"event_types": types, "from": first, "to": last}
            if query.by is None:
                total = stats.users(types, first, last)
                rows = [(first, last, *_count(total), total.as_of)]
                table = CsvTable("users", ("from", "to", *_COLUMNS, "as_of"), rows)
            else:
                try:
                    series = stats.users_by(types, first, last, query.by)
                except TooManyPeriods as error:
                    raise InvalidParameter("from", str(error)) from error
                total, points = series.total, [(at, *_count(one)) for at, one in series.points]
                columns = ("at", *_COLUMNS)
                found["series"] = [dict(zip(columns, point, strict=True)) for point in points]
                table = CsvTable("users", columns, points)
            found |= dict(zip(_COLUMNS, _count(total), strict=True)) | {"as_of": total.as_of}
            return respond(request, found | _describe_pruned(total.kept_since), table, cache)

        return await scan(request, query.fresh, read)


def _add_active_route(router: APIRouter, stats: Stats, scan: Scan) -> None:
    @router.get("/stats/active", response_model=ActiveAnswer)
    async def active(request: Request, query: Annotated[ActiveQuery, Query()]) -> Response:
        """How many people were active on a day, and in the 7 and 30 days that it ends."""
        day = query.date or today()

        def read(cache: str) -> Response:
            one = stats.active_users(day)
            found = {
                "date": day,
                "dau": one.dau,
                "wau": one.wau,
                "mau": one.mau,
                "stickiness": one.stickiness,
                "as_of": one.as_of,
            }
            table = CsvTable("active", list(found), [list(found.values())])
            return respond(request, found | _describe_pruned(one.kept_since), table, cache)

        return await scan(request, query.fresh, read)


def _add_retention_route(
    router: APIRouter, stats: Stats, scan: Scan, questions: ArchiveQuestions
) -> None:
    @router.get("/stats/retention", response_model=RetentionAnswer, responses=REPORT)
    async def retention(request: Request, query: Annotated[RetentionQuery, Query()]) -> Response:
        """Of the people who did one thing in a period, how many did another so many periods
        later; as of the last archive run where either has conditions."""
        first, last = query.days()
        plain = refuse_invalid(lambda: read_plain_types(query.start, query.return_))
        if plain is None:
            return await questions.ask(
                request,
                lambda: RetentionQuestion(query.start, query.return_, query.by, first, last),
                fresh=query.fresh,
            )

        def read(cache: str) -> Response:
            try:
                one = stats.retention(*plain, query.by, first, last)
            except TooManyPeriods as error:
                raise InvalidParameter("from", str(error)) from error
            found = {
                "start": query.start,
                "return": query.return_,
                "by": query.by,
                "cohorts": [
                    {"start": cohort.start, "users": cohort.users, "returned": cohort.returned}
                    for cohort in one.cohorts
                ],
                "as_of": one.as_of,
            }
            rows = [
                (cohort.start, cohort.users, n, returned)
                for cohort in one.cohorts
                for n, returned in enumerate(cohort.returned)
            ]
            table = CsvTable("retention", ("start", "users", "period", "returned"), rows)
            return respond(request, found | _describe_pruned(one.kept_since), table, cache)

        return await scan(request, query.fresh, read)


def _count(one: Users) -> tuple[int, int, int]:
    return one.users, one.new, one.returning


def _describe_pruned(kept_since: date | None) -> dict[str, date]:
    return {"counted_from": kept_since} if kept_since else {}
