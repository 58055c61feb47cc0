"""Routes of the stats API that ask the archive: funnels, breakdowns on any conditions, and the
reports that a worker makes of what would take long."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from pipeline.reading.journeys.breakdown import BreakdownQuestion
from pipeline.reading.journeys.funnels import FunnelQuestion
from pipeline.reading.reports.questions import Question
from pipeline.services import Services
from pipeline.web.api.archive_questions import ArchiveQuestions, make_table
from pipeline.web.api.journey_models import (
    REPORT,
    BreakdownAnswer,
    BreakdownQuery,
    FunnelAnswer,
    FunnelQuery,
    ReportAnswer,
)
from pipeline.web.api.response_models import TABLE, document_errors
from pipeline.web.api.table_responses import CsvTable, respond
from pipeline.web.api.threads import ThreadPools
from pipeline.web.errors import NotServed

ReportId = Annotated[UUID, Path(description="As the question's answer named it")]


def create_journey_routes(threads: ThreadPools, services: Services) -> APIRouter:
    """The routes, which read the archive of `services`."""
    router = APIRouter(tags=["archive"], responses=TABLE | document_errors(422))

    questions = ArchiveQuestions(threads, services)

    @router.get("/stats/funnel", response_model=FunnelAnswer, responses=REPORT)
    async def funnel(request: Request, query: Annotated[FunnelQuery, Query()]) -> Response:
        """How many users did one thing after another within a time, as of the last archive run."""

        def make() -> Question:
            steps, days = tuple(query.step), query.days()
            return FunnelQuestion(
                steps, *days, query.window, query.any_order, query.by, query.limit
            )

        return await questions.ask(request, make, fresh=query.fresh)

    @router.get("/stats/breakdown", response_model=BreakdownAnswer, responses=REPORT)
    async def breakdown(request: Request, query: Annotated[BreakdownQuery, Query()]) -> Response:
        """Archived events by the value of any property, on any conditions, as of the last archive
        run."""

        def make() -> Question:
            name, where = query.property_name, query.where
            return BreakdownQuestion(query.event_type, *query.days(), name, where, query.limit)

        return await questions.ask(request, make, fresh=query.fresh)

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
            table = make_table(found.question, result) if result else CsvTable("report", (), ())
            return respond(request, found.describe(), table)

        return await threads.run_lookup(request.state.key.id, 0, read)

    return router
