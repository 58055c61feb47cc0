"""Routes of the stats API that ask the archive: funnels, breakdowns on any conditions, and the
reports that a worker makes of what would take long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from kombu.exceptions import OperationalError
from starlette.responses import Response

from pipeline.errors import InvalidQuestion, QuestionTooLarge
from pipeline.producer.reports import ask_for_report
from pipeline.reading.journeys.breakdown import BreakdownQuestion
from pipeline.reading.journeys.funnels import FunnelQuestion
from pipeline.reading.reports.questions import Question, answer, estimate, find_kind, tabulate
from pipeline.reading.reports.reports import Report
from pipeline.services import Services
from pipeline.web.api.journey_models import (
    ArchiveQuery,
    BreakdownAnswer,
    BreakdownQuery,
    FunnelAnswer,
    FunnelQuery,
    ReportAnswer,
)
from pipeline.web.api.response_models import TABLE, document_errors
from pipeline.web.api.table_responses import CACHE_SHORTLY, REVALIDATE, CsvTable, respond
from pipeline.web.api.threads import ThreadPools
from pipeline.web.errors import InvalidParameter, NotServed, Unavailable
from pipeline.web.responses import encode_json

MOST_ROWS_AT_ONCE = 300_000
"""Of the archive, about: what reads more becomes a report."""
TIMEOUT_S = 8.0
"""For a statement of what is answered at once."""
_REPORT: dict[int | str, dict[str, Any]] = {
    202: {"model": ReportAnswer, "description": "A worker answers; see `Location`"}
}
ReportId = Annotated[UUID, Path(description="As the question's answer named it")]


def create_journey_routes(threads: ThreadPools, services: Services) -> APIRouter:
    """The routes, which read the archive of `services`."""
    router = APIRouter(tags=["archive"], responses=TABLE | document_errors(422))

    async def ask(
        request: Request, query: ArchiveQuery, make_question: Callable[[], Question]
    ) -> Response:
        question = _check(make_question)
        if query.fresh:
            await threads.run_job(request.state.key.id, services.archive_events)
        caching = REVALIDATE if query.fresh else CACHE_SHORTLY

        def read() -> Response:
            try:
                found = _answer_at_once(services, question)
            except QuestionTooLarge as error:
                raise InvalidParameter("from", str(error)) from error
            if isinstance(found, Report):
                return _accept(found)
            return respond(request, found, _tabulate(question, found), caching)

        return await threads.run_scan(request.state.key.id, read)

    @router.get("/stats/funnel", response_model=FunnelAnswer, responses=_REPORT)
    async def funnel(request: Request, query: Annotated[FunnelQuery, Query()]) -> Response:
        """How many users did one thing after another within a time, as of the last archive run."""

        def make() -> Question:
            steps, days = tuple(query.step), query.days()
            return FunnelQuestion(
                steps, *days, query.window, query.any_order, query.by, query.limit
            )

        return await ask(request, query, make)

    @router.get("/stats/breakdown", response_model=BreakdownAnswer, responses=_REPORT)
    async def breakdown(request: Request, query: Annotated[BreakdownQuery, Query()]) -> Response:
        """Archived events by the value of any property, on any conditions, as of the last archive
        run."""

        def make() -> Question:
            name, where = query.property_name, query.where
            return BreakdownQuestion(query.event_type, *query.days(), name, where, query.limit)

        return await ask(request, query, make)

    @router.get("/reports/{report_id}", response_model=ReportAnswer, responses=document_errors(404))
    async def report(request: Request, report_id: ReportId) -> Response:
        """How far a report is, and its answer at last; reports are kept for a day."""

        def read() -> Response:
            found = services.reports.find(report_id)
            if found is None:
                raise NotServed(
                    f"there is no report {report_id}: it is forgotten after a day; ask again"
                )
            result = found.result or {}
            table = _tabulate(found.question, result) if result else CsvTable("report", (), ())
            return respond(request, found.describe(), table)

        return await threads.run_lookup(request.state.key.id, 0, read)

    return router


def _check(make_question: Callable[[], Question]) -> Question:
    try:
        return make_question()
    except InvalidQuestion as error:
        field = "step" if error.field.startswith("step") else error.field
        raise InvalidParameter(field, str(error)) from error


def _answer_at_once(services: Services, question: Question) -> dict[str, object] | Report:
    """The answer, where there is one or it takes little; else the report that a worker makes."""
    current = services.reports.find_current(question)
    if current is not None and current.result is not None:
        return current.result
    if estimate(services.engine, question) <= MOST_ROWS_AT_ONCE:
        return answer(services.engine, question, timeout_s=TIMEOUT_S)
    found, is_new = services.reports.ask(question)
    if found.result is not None:
        return found.result
    if is_new:
        try:
            ask_for_report(found.id, services.keys.prefix)
        except OperationalError as error:
            raise Unavailable(f"no worker can be asked for a report now ({error})") from error
    return found


def _accept(report: Report) -> Response:
    headers = {"Location": f"/api/reports/{report.id}", "Cache-Control": "no-store"}
    body = encode_json(report.describe())
    return Response(body, status_code=202, headers=headers, media_type="application/json")


def _tabulate(question: Question, found: dict[str, object]) -> CsvTable:
    columns, rows = tabulate(question, found)
    return CsvTable(find_kind(question), columns, rows)
