"""Reports: a question's answer, kept for a day, while nothing newer was archived.

A report is made by a worker, which may die at any step and be followed by another: it computes the
answer from the archive and writes it in one statement, so a repeat writes the same, of a later
instant. A report that has not moved for `STALE_S` is asked for again by the next question.

One report is made at a time, however many are asked for and whichever workers run: they share these
with flushes and the archive. Who asks for many waits for them; others come between.
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

from pipeline.errors import PipelineError, TooManyReports
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
MOST_WAITING, MOST_WAITING_OF_ONE = 100, 10
"""Reports that wait or run, in all and of those that were asked for by the same."""
MOST_TRIES = 3
"""After so many workers were lost while they made it, a report fails."""
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
    "(id, question, state, progress, asked_by, tries, asked_at, changed_at) "
    "VALUES (:id, :question, 'waiting', 0, :by, 0, clock_timestamp(), clock_timestamp()) "
    "ON CONFLICT (id) DO UPDATE SET state = 'waiting', progress = 0, result = NULL, "
    "reason = NULL, as_of = NULL, asked_by = excluded.asked_by, tries = 0, "
    "asked_at = clock_timestamp(), changed_at = clock_timestamp()"
)
_TOUCH = text(
    "UPDATE schema$.analytics_reports SET changed_at = clock_timestamp() "
    "WHERE id = :id AND state IN ('waiting', 'running')"
)
# Those that were lost do not keep others from being asked for longer than that.
_COUNT_WAITING = text(
    "SELECT count(*), count(*) FILTER (WHERE asked_by = :by) FROM schema$.analytics_reports "
    "WHERE state IN ('waiting', 'running') AND asked_at > clock_timestamp() - INTERVAL '1 hour'"
)
_TAKE_TURN = text("SELECT pg_try_advisory_xact_lock(hashtext('schema$.analytics:reports'))")
# Who was served longest ago comes first. One that runs has lost its worker, for it is made by one
# at a time.
_BEGIN_NEXT = text(
    "UPDATE schema$.analytics_reports SET state = 'running', tries = tries + 1, progress = 0, "
    "changed_at = clock_timestamp() WHERE id = (SELECT id FROM schema$.analytics_reports AS one "
    "WHERE state IN ('waiting', 'running') ORDER BY ("
    "SELECT max(changed_at) FROM schema$.analytics_reports AS served WHERE "
    "served.asked_by = one.asked_by AND served.state IN ('done', 'failed')"
    ") NULLS FIRST, asked_at LIMIT 1) RETURNING id, question, tries"
)
_READ_NEXT = text(
    "SELECT id FROM schema$.analytics_reports WHERE state = 'waiting' ORDER BY asked_at LIMIT 1"
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
    "ORDER BY state IN ('waiting', 'running') DESC, asked_at DESC OFFSET :most)"
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

    def ask(self, question: Question, asked_by: str = "") -> tuple[Report, bool]:
        """The question's report, and whether a worker has to be asked to make it. Old reports are
        forgotten, and the oldest where there are too many.

        Raises `TooManyReports` when too many wait that were asked for by the same, or in all.
        """
        report_id = identify(question)
        with self.engine.begin() as connection:
            row = _read(connection, report_id)
            if row is not None and _is_current(row):
                return _report(row), False
            if row is not None and row.state in ("waiting", "running"):
                is_lost = _age_s(row) >= STALE_S
                if is_lost:
                    connection.execute(_TOUCH, {"id": report_id})
                return _report(row), is_lost
            _check_waiting(connection, asked_by)
            _enter(connection, question, asked_by)
        return Report(report_id, question, "waiting", 0.0), True

    def make_next(self, timeout_s: float = TIME_LIMIT_S) -> UUID | None:
        """Make the report whose turn it is, unless another process makes one; returns a report that
        waits still, for which a worker has to be asked. May be repeated."""
        with self.engine.connect() as turn:
            if not turn.execute(_TAKE_TURN).scalar_one():
                return None  # who makes one sees what waits when it is done
            with self.engine.begin() as connection:
                row = connection.execute(_BEGIN_NEXT).one_or_none()
            if row is not None:
                self._make(row, timeout_s)
        with self.engine.connect() as connection:
            found: UUID | None = connection.execute(_READ_NEXT).scalar_one_or_none()
        return found

    def _make(self, row: Row[Any], timeout_s: float) -> None:
        if row.tries > MOST_TRIES:
            reason = f"{MOST_TRIES} workers were lost while they made it: ask about fewer days"
            self._end(row.id, "failed", reason=reason)
            return
        moving = _Moving(self.engine, row.id)
        try:
            question = read_question(row.question)
            found = answer(self.engine, question, moving.move_now_and_then, timeout_s)
        except (PipelineError, DBAPIError) as error:
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                raise
            logger.info("a report failed: %s", error)
            self._end(row.id, "failed", reason=_explain(error))
        else:
            self._end(row.id, "done", found=found)

    def answer_here(self, question: Question, progress: Progress) -> dict[str, Any]:
        """The current answer, or one that is made in this process and kept. Raises
        `QuestionTooLarge`."""
        current = self.find_current(question)
        if current is not None and current.result is not None:
            return current.result
        found = answer(self.engine, question, progress, TIME_LIMIT_S)
        with self.engine.begin() as connection:
            _enter(connection, question, "")
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


def _check_waiting(connection: Connection, asked_by: str) -> None:
    of_all, of_one = connection.execute(_COUNT_WAITING, {"by": asked_by}).one()
    if of_one >= MOST_WAITING_OF_ONE:
        raise TooManyReports(
            f"{of_one} reports that you asked for wait: ask again when one is done"
        )
    if of_all >= MOST_WAITING:
        raise TooManyReports(f"{of_all} reports wait: ask again when some are done")


def _enter(connection: Connection, question: Question, asked_by: str) -> None:
    values = {"id": identify(question), "question": write_question(question), "by": asked_by}
    connection.execute(_ASK, values)
    connection.execute(_FORGET_OLD, {"kept": KEPT})
    connection.execute(_FORGET_MANY, {"most": MOST_REPORTS})


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


def _age_s(row: Row[Any]) -> float:
    age: timedelta = row.now - row.changed_at
    return age.total_seconds()


def _explain(error: Exception) -> str:
    if isinstance(error, PipelineError):
        return str(error)
    return f"Postgres refused ({str(getattr(error, 'orig', error)).partition(chr(10))[0]})"
