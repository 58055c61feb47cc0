"""Questions about the archive over HTTP: answered at once where that takes little, else by a report
that a worker makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from kombu.exceptions import OperationalError
from starlette.responses import Response

from pipeline.errors import InvalidQuestion, QuestionTooLarge, TooManyReports
from pipeline.producer.reports import ask_for_report
from pipeline.reading.reports.questions import Question, answer, estimate, find_kind, tabulate
from pipeline.reading.reports.reports import Report
from pipeline.services import Services
from pipeline.web.api.table_responses import CACHE_SHORTLY, REVALIDATE, CsvTable, respond
from pipeline.web.api.threads import ThreadPools
from pipeline.web.errors import InvalidParameter, TooManyRequests, Unavailable
from pipeline.web.responses import encode_json

_Made = TypeVar("_Made")

MOST_ROWS_AT_ONCE = 300_000
"""Of the archive, about: what reads more becomes a report."""
TIMEOUT_S = 8.0
"""For a statement of what is answered at once."""
REPORTS_RETRY_AFTER_S = 30
"""When too many reports wait."""


@dataclass(frozen=True)
class ArchiveQuestions:
    """Answers questions about the archive of `services`."""

    threads: ThreadPools
    services: Services

    async def ask(
        self, request: Request, make_question: Callable[[], Question], *, fresh: bool
    ) -> Response:
        """The answer, 200, or the report, 202. `fresh` archives first. Raises `InvalidParameter`
        for a question that has no answer, or one that is too large."""
        question, token_id = refuse_invalid(make_question), request.state.key.id
        if fresh:
            await self.threads.run_job(token_id, self.services.archive_events)
        caching = REVALIDATE if fresh else CACHE_SHORTLY

        def read() -> Response:
            try:
                found = answer_or_ask(self.services, question, token_id)
            except QuestionTooLarge as error:
                raise InvalidParameter("from", str(error)) from error
            if isinstance(found, Report):
                return _accept(found)
            return respond(request, found, make_table(question, found), caching)

        return await self.threads.run_scan(token_id, read)


def answer_or_ask(services: Services, question: Question, token_id: str) -> dict[str, Any] | Report:
    """The answer, where there is one or it takes little; else the report that a worker makes.

    Raises `QuestionTooLarge`, `TooManyRequests` where too many reports wait, and `Unavailable`.
    """
    current = services.reports.find_current(question)
    if current is not None and current.result is not None:
        return current.result
    if estimate(services.engine, question, TIMEOUT_S) <= MOST_ROWS_AT_ONCE:
        return answer(services.engine, question, timeout_s=TIMEOUT_S)
    return ask_worker(services, question, token_id)


def ask_worker(services: Services, question: Question, token_id: str) -> dict[str, Any] | Report:
    """The question's report, or its answer where it is done; a worker is asked where none was, or
    where the one that was is lost. Raises `TooManyRequests` and `Unavailable`."""
    try:
        found, is_new = services.reports.ask(question, token_id)
    except TooManyReports as error:
        raise TooManyRequests(f"reports ({error})", REPORTS_RETRY_AFTER_S) from error
    if found.result is not None:
        return found.result
    if is_new:
        try:
            ask_for_report(found.id, services.keys.prefix)
        except OperationalError as error:
            raise Unavailable(f"no worker can be asked for a report now ({error})") from error
    return found


def make_table(question: Question, found: Mapping[str, Any]) -> CsvTable:
    """The answer as a table."""
    columns, rows = tabulate(question, dict(found))
    return CsvTable(find_kind(question), columns, rows)


def refuse_invalid(make: Callable[[], _Made]) -> _Made:
    """What `make` returns. Raises `InvalidParameter` where it raises `InvalidQuestion`."""
    try:
        return make()
    except InvalidQuestion as error:
        if error.field.startswith("step"):  # which of them, the reason says
            raise InvalidParameter("step", str(error)) from error
        raise InvalidParameter(error.field, error.reason) from error


def _accept(report: Report) -> Response:
    headers = {"Location": f"/api/reports/{report.id}", "Cache-Control": "no-store"}
    body = encode_json(report.describe())
    return Response(body, status_code=202, headers=headers, media_type="application/json")
