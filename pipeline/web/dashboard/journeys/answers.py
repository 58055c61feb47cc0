"""The answer to a question about the archive, or how far the report is that will be one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.reading.reports.questions import Question, identify
from pipeline.reading.reports.reports import Report
from pipeline.web.api.archive_questions import answer_or_ask, ask_worker
from pipeline.web.dashboard.page import Asked, Sources

POLL_S = 2
"""How often a page asks how far its report is."""


@dataclass(frozen=True)
class Answer:
    """`found` is the answer, JSON-ready; None while a report is made, or where it failed."""

    found: Mapping[str, Any] | None
    report: Report | None = None

    @property
    def as_of(self) -> datetime | None:
        """The last archive run that is part of the answer."""
        as_of = (self.found or {}).get("as_of")
        return datetime.fromisoformat(as_of) if isinstance(as_of, str) else as_of

    @property
    def is_awaited(self) -> bool:
        """Whether the page has to ask again."""
        return self.report is not None and self.report.state in ("waiting", "running")


def find_answer(sources: Sources, asked: Asked, question: Question) -> Answer:
    """The answer, or the report. A page that follows a report names it in the parameter `report`,
    so that one that failed is not asked for again by itself.

    Raises `QuestionTooLarge`, `TooManyRequests` and `Unavailable`.
    """
    services, report_id = sources.services, identify(question)
    if asked.query.get("report") == str(report_id):
        followed = services.reports.find(report_id)
        if followed is not None and followed.state == "failed":
            return Answer(None, followed)
        if followed is not None and followed.state != "done":
            return _wrap(ask_worker(services, question, asked.viewer.id))
    return _wrap(answer_or_ask(services, question, asked.viewer.id))


def _wrap(found: Mapping[str, Any] | Report) -> Answer:
    return Answer(None, found) if isinstance(found, Report) else Answer(found)
