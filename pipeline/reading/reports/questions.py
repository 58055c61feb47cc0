"""Questions about the archive, each of which may become a report: as JSON, as a table, answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from hashlib import blake2b
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Engine

from pipeline.reading.journeys import breakdown, funnels, retention
from pipeline.reading.journeys.breakdown import BreakdownQuestion
from pipeline.reading.journeys.funnels import FunnelQuestion
from pipeline.reading.journeys.retention import RetentionQuestion
from pipeline.reading.journeys.snapshot import TIME_LIMIT_S

Question = FunnelQuestion | BreakdownQuestion | RetentionQuestion
KINDS: dict[str, type[Question]] = {
    "funnel": FunnelQuestion,
    "breakdown": BreakdownQuestion,
    "retention": RetentionQuestion,
}
_VERSION = "1"
"""Of the answers: one of another is asked for anew."""
_encode = msgspec.json.Encoder().encode
_STEP_COLUMNS = ("step", "users", "lost", "conversion", "of_first", "median_s")

Progress = Callable[[float], None]
Table = tuple[Sequence[str], list[tuple[object, ...]]]
"""Columns and rows."""


def find_kind(question: Question) -> str:
    """What kind of question it is: funnel, breakdown or retention."""
    return next(kind for kind, one in KINDS.items() if isinstance(question, one))


def write_question(question: Question) -> str:
    """The question as JSON, the same for the same question."""
    return _encode({"kind": find_kind(question), **asdict(question)}).decode()


def read_question(text: str) -> Question:
    """The question that this JSON is. Raises `InvalidQuestion` and ValueError."""
    fields: dict[str, Any] = msgspec.json.decode(text)
    made = KINDS[fields.pop("kind")]
    for name in ("first", "last"):
        fields[name] = date.fromisoformat(fields[name])
    if "steps" in fields:
        fields["steps"] = tuple(fields["steps"])
    return made(**fields)


def identify(question: Question) -> UUID:
    """The id of the question's report."""
    text = f"{_VERSION} {write_question(question)}"
    return UUID(bytes=blake2b(text.encode(), digest_size=16).digest())


def answer(
    engine: Engine,
    question: Question,
    progress: Progress = lambda _: None,
    timeout_s: float = TIME_LIMIT_S,
) -> dict[str, Any]:
    """The answer, JSON-ready, with `as_of`.

    Raises `QuestionTooLarge` beyond the limits, and sqlalchemy.exc.DBAPIError.
    """
    match question:
        case FunnelQuestion():
            return funnels.find_funnel(engine, question, progress, timeout_s).describe()
        case BreakdownQuestion():
            return breakdown.find_breakdown(engine, question, timeout_s).describe()
        case RetentionQuestion():
            return retention.find_retention(engine, question, progress, timeout_s).describe()


def estimate(engine: Engine, question: Question, timeout_s: float = TIME_LIMIT_S) -> int:
    """How many rows of the archive an answer reads, about."""
    match question:
        case FunnelQuestion():
            return funnels.estimate_work(engine, question, timeout_s)
        case BreakdownQuestion():
            return breakdown.estimate_work(engine, question, timeout_s)
        case RetentionQuestion():
            return retention.estimate_work(engine, question, timeout_s)


def tabulate(question: Question, found: dict[str, Any]) -> Table:
    """The answer as a table."""
    match question:
        case FunnelQuestion(by=None):
            return _STEP_COLUMNS, _list_steps(found["steps"])
        case FunnelQuestion():
            rows = [
                (one["value"], *row) for one in found["values"] for row in _list_steps(one["steps"])
            ]
            return ("value", *_STEP_COLUMNS), rows
        case BreakdownQuestion(by=None):
            return ("count", "users"), [(found["count"], found["users"])]
        case BreakdownQuestion():
            rows = [(one["value"], one["count"]) for one in found["breakdown"]]
            return ("value", "count"), rows
        case RetentionQuestion():
            rows = [
                (one["start"], one["users"], period, n)
                for one in found["cohorts"]
                for period, n in enumerate(one["returned"])
            ]
            return ("start", "users", "period", "returned"), rows


def _list_steps(steps: Sequence[dict[str, Any]]) -> list[tuple[object, ...]]:
    return [tuple(step[name] for name in _STEP_COLUMNS) for step in steps]
