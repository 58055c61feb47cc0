"""Reports: a question's answer, kept for a day, while nothing newer was archived.

A report is made by a worker, which may die at any step and be followed by another: it computes the
answer from the archive and writes it in one statement, so a repeat writes the same, of a later
instant. A report that has not moved for `STALE_S` is asked for again by the next question.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.exc import DBAPIError

from pipeline.errors import PipelineError
from pipeline.reading.reports.questions import (
    Progress,
    Question,
    answer,
    identify,
    read_question,
    write_question,
)

KEPT = timedelta(days=1)
MOST_REPORTS = 1_000
FRESH_S = 60.0
"""For which a report is good whatever was archived since."""
STALE_S = 180.0
"""After which a report that waits or runs is taken for lost; longer than one of its statements."""
TIME_LIMIT_S = 120.0
"""For each statement of a report."""
_PROGRESS_EVERY_S = 1.0
_encode = msgspec.json.Encoder().encode
_COLUMNS = (
    "id, question, state, progress, result, reason, as_of, changed_at, "
    "(SELECT max(archived_at) FROM schema$.archived_entries) AS archived_at, "
    "clock_timestamp() AS now"
)
_READ = text(f"SELECT {_COLUMNS} FROM schema$.analytics_reports WHERE id = :id")
_ASK = text(
    "INSERT INTO schema$.analytics_reports "
    "(id, question, state, progress, asked_at, changed_at) "
    "VALUES (:id, :question, 'waiting', 0, clock_timestamp(), clock_timestamp()) "
    "ON CONFLICT (id) DO UPDATE SET state = 'waiting', progress = 0, result = NULL, "
    "reason = NULL, as_of = NULL, asked_at = clock_timestamp(), changed_at = clock_timestamp()"
)
_MOVE = text(
    "UPDATE schema$.analytics_reports SET state = 'running', progress = :progress, "
    "changed_at = clock_timestamp() WHERE id = :id AND state IN ('waiting', 'running')"
)
_END = text(
    "UPDATE schema$.analytics_reports SET state = :state, progress = 1, result = :result, "
    "reason = :reason, as_of = :as_of, changed_at = clock_timestamp() WHERE id = :id"
)
_FORGET_OLD = text(
    "DELETE FROM schema$.analytics_reports "
    "WHERE asked_at < clock_timestamp() - CAST(:kept AS INTERVAL)"
)
_FORGET_MANY = text(
    "DELETE FROM schema$.analytics_reports WHERE id IN (SELECT id FROM schema$.analytics_reports "
    "ORDER BY asked_at DESC OFFSET :most)"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """A report: `state` is waiting, running, done or failed, `progress` from 0 to 1; `result` is
    there when it is done, `reason` when it failed."""

    id: UUID
    question: Question
    state: str
    progress: float
    result: dict[str, Any] | None = None
    reason: str | None = None

    def describe(self) -> dict[str, Any]:
        """The report, JSON-ready."""
        return {
            "report": str(self.id),
            "state": self.state,
            "progress": self.progress,
            "result": self.result,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Reports:
    """The reports in this Postgres. Every method raises sqlalchemy.exc.DBAPIError."""

    engine: Engine

    def find(self, report_id: UUID) -> Report | None:
        """The report with this id."""
        with self.engine.connect() as connection:
            row = _read(connection, report_id)
        return None if row is None else _report(row)

    def find_current(self, question: Question) -> Report | None:
        """The report that answers the question as things are now."""
        with self.engine.connect() as connection:
            row = _read(connection, identify(question))
        return _report(row) if row is not None and _is_current(row) else None

    def ask(self, question: Question) -> tuple[Report, bool]:
        """The question's report, and whether a worker has to be asked to make it. Old reports are
        forgotten, and the oldest where there are too many."""
        report_id = identify(question)
        with self.engine.begin() as connection:
            row = _read(connection, report_id)
            if row is not None and (_is_current(row) or _is_under_way(row)):
                return _report(row), False
            connection.execute(_ASK, {"id": report_id, "question": write_question(question)})
            connection.execute(_FORGET_OLD, {"kept": KEPT})
            connection.execute(_FORGET_MANY, {"most": MOST_REPORTS})
        return Report(report_id, question, "waiting", 0.0), True

    def make(self, report_id: UUID, timeout_s: float = TIME_LIMIT_S) -> str | None:
        """Make a report that was asked for; returns its state, None when there is none. One that is
        current is left as it is. May be repeated, and runs side by side write the same."""
        with self.engine.connect() as connection:
            row = _read(connection, report_id)
        if row is None or _is_current(row):
            return None if row is None else str(row.state)
        report = _report(row)
        moving = _Moving(self.engine, report_id)
        moving.move(0.0)
        try:
            found = answer(self.engine, report.question, moving.move_now_and_then, timeout_s)
        except (PipelineError, DBAPIError) as error:
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                raise
            logger.info("a report failed: %s", error)
            self._end(report_id, "failed", reason=_explain(error))
            return "failed"
        self._end(report_id, "done", found=found)
        return "done"

    def answer_here(self, question: Question, progress: Progress) -> dict[str, Any]:
        """The current answer, or one that is made in this process and kept. Raises
        `QuestionTooLarge`."""
        current = self.find_current(question)
        if current is not None and current.result is not None:
            return current.result
        found = answer(self.engine, question, progress, TIME_LIMIT_S)
        self.ask(question)
        self._end(identify(question), "done", found=found)
        return found

    def _end(
        self,
        report_id: UUID,
        state: str,
        found: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> None:
        values = {
            "id": report_id,
            "state": state,
            "result": None if found is None else _encode(found).decode(),
            "reason": reason,
            "as_of": None if found is None else found["as_of"],
        }
        with self.engine.begin() as connection:
            connection.execute(_END, values)


class _Moving:
    """Notes how far a report is, about once a second."""

    def __init__(self, engine: Engine, report_id: UUID) -> None:
        self._engine, self._id, self._next_s = engine, report_id, 0.0

    def move_now_and_then(self, progress: float) -> None:
        if time.monotonic() >= self._next_s:
            self.move(progress)

    def move(self, progress: float) -> None:
        with self._engine.begin() as connection:
            connection.execute(_MOVE, {"id": self._id, "progress": round(progress, 3)})
        self._next_s = time.monotonic() + _PROGRESS_EVERY_S


def _read(connection: Connection, report_id: UUID) -> Row[Any] | None:
    return connection.execute(_READ, {"id": report_id}).one_or_none()


def _report(row: Row[Any]) -> Report:
    result = None if row.result is None else msgspec.json.decode(row.result)
    return Report(row.id, read_question(row.question), row.state, row.progress, result, row.reason)


def _is_current(row: Row[Any]) -> bool:
    """Whether an answer is what a new one would be, or is of just now."""
    if row.state != "done":
        return False
    return bool(row.as_of == row.archived_at) or _age_s(row) < FRESH_S


def _is_under_way(row: Row[Any]) -> bool:
    return row.state in ("waiting", "running") and _age_s(row) < STALE_S


def _age_s(row: Row[Any]) -> float:
    age: timedelta = row.now - row.changed_at
    return age.total_seconds()


def _explain(error: Exception) -> str:
    if isinstance(error, PipelineError):
        return str(error)
    return f"Postgres refused ({str(getattr(error, 'orig', error)).partition(chr(10))[0]})"
