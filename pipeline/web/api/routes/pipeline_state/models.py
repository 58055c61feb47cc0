"""The answers about the pipeline itself, as the OpenAPI document describes them."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

from pydantic import BaseModel, Field

from pipeline.upkeep.condition.alarms import find_alarms
from pipeline.upkeep.condition.findings import find_risks, summarise
from pipeline.upkeep.dead_letter_groups import Group
from pipeline.upkeep.heartbeats import Worker
from pipeline.web.api.response_models import LaneStatus
from pipeline.web.pipeline_status import PipelineStatus

_BOOKS = (
    *("published", "consumed", "counted", "duplicate", "dead", "forgotten", "expired", "unlogged"),
    *("missing_messages", "audit_drift", "balanced"),
)


class FindingAnswer(BaseModel):
    """Something that is wrong."""

    gravity: Literal["lost", "stopped", "late", "possible"] = Field(
        description="lost: events may be; stopped: they are safe, and wait; late: what else; "
        "possible: nothing is wrong, and something may go wrong"
    )
    what: str
    remedy: str = Field(description="What to do")


class StageAnswer(BaseModel):
    """A stage that events pass."""

    name: str
    unit: Literal["events", "messages", "counters"]
    number: int | None = Field(
        description="In all or now; of `stored` and `archived` in the last hour; null: not known"
    )
    rate_per_s: float | None = Field(
        description="How many pass a second, or by how much what waits changes"
    )
    last_hour: list[float | None] = Field(
        description="By minute, oldest first: how many passed, or the most that waited; null: no "
        "sample"
    )


class BooksAnswer(BaseModel):
    """The running totals of events."""

    published: int
    consumed: int
    counted: int
    duplicate: int
    dead: int
    forgotten: int
    expired: int
    unlogged: int
    missing_messages: int = Field(description="Above 0 something is lost")
    audit_drift: int = Field(description="Events by which archive and counters differed last")
    balanced: bool


class RunAnswer(BaseModel):
    """The last run of a task that ended well."""

    at: dt.datetime
    took_s: float | None


class FlushAnswer(RunAnswer):
    """The last flush that had something to store. `took_s` is null where it was made by hand."""

    counters: int = Field(ge=0, description="Counters that it stored")


class StatusAnswer(BaseModel):
    """Whether all events are accounted for, what waits, and what falls behind."""

    summary: str = Field(
        description='"All events are accounted for.", or the gravest that is wrong'
    )
    findings: list[FindingAnswer] = Field(description="The gravest first")
    alarms: list[str] = Field(
        description="Names of the alarms that these raise, see docs/guides/operating/alarms; none "
        "while all is well"
    )
    stages: list[StageAnswer] = Field(description="In the order in which an event passes them")
    books: BooksAnswer
    events_waiting: int = Field(ge=0, description="Messages in the events queue")
    events_delayed: int = Field(ge=0, description="Messages that wait until they are due")
    dead_letters: int = Field(ge=0, description="While Postgres is away those in Redis alone")
    last_flush: FlushAnswer | None
    last_archive: RunAnswer | None
    last_audit: RunAnswer | None
    lanes: dict[str, LaneStatus]
    warnings: list[str] = Field(description="A line for what falls behind, with the remedy")


class WorkerAnswer(BaseModel):
    """A worker that said within the last hour that it lives."""

    kind: Literal["events", "flush"]
    name: str
    version: str | None = Field(description="null: of a version that does not say it")
    silent_s: int = Field(ge=0, description="How long ago it said so")
    is_seen: bool = Field(description="Whether that is short enough to count as living")


class WorkersAnswer(BaseModel):
    """Workers, those seen last first."""

    workers: list[WorkerAnswer]


class DeadLetterGroupAnswer(BaseModel):
    """Dead letters of one kind and reason that were neither replayed nor dropped."""

    kind: str = Field(description="event, message, counter or entry")
    reason: str
    count: int = Field(ge=1)
    first_at: dt.datetime
    last_at: dt.datetime
    can_be_replayed: bool


class DeadLettersAnswer(BaseModel):
    """Dead letters by reason, the most frequent first."""

    groups: list[DeadLetterGroupAnswer]
    total: int = Field(ge=0, description="In Postgres, in all groups")
    waiting: int = Field(ge=0, description="In Redis; they are moved every few minutes")


def to_status(found: PipelineStatus) -> dict[str, Any]:
    """What `StatusAnswer` describes."""
    status, runs, stored = found.status, found.runs, found.stored
    flush = runs["flush"]
    last_flush = None
    if stored is not None and stored.last_stored_at is not None:
        last_flush = {
            "at": stored.last_stored_at,
            "counters": stored.last_stored,
            "took_s": flush.took_s if stored.is_of_run and flush else None,
        }
    return {
        "summary": summarise(found.faults),
        "findings": [
            {"gravity": one.gravity, "what": one.what, "remedy": one.remedy}
            for one in [*found.faults, *find_risks(status["discarding_workers"])]
        ],
        "alarms": list(find_alarms(found.faults)),
        "stages": [
            {
                "name": one.name,
                "unit": one.unit,
                "number": one.number,
                "rate_per_s": one.rate_per_s,
                "last_hour": list(one.values),
            }
            for one in found.stages
        ],
        "books": {name: status["books"][name] for name in _BOOKS},
        "events_waiting": status["queue_depth"],
        "events_delayed": status["delayed"],
        "dead_letters": status["dead_letters"],
        "last_flush": last_flush,
        "last_archive": _to_run(found.last_archive),
        "last_audit": _to_run(runs["audit"]),
        "lanes": status["lanes"],
        "warnings": status["warnings"],
    }


def _to_run(run: Any) -> dict[str, Any] | None:
    return {"at": run.at, "took_s": run.took_s} if run else None


def to_worker(one: Worker) -> dict[str, Any]:
    """What `WorkerAnswer` describes."""
    return {
        "kind": one.kind,
        "name": one.name,
        "version": one.version or None,
        "silent_s": one.silent_s,
        "is_seen": one.is_seen,
    }


def to_group(one: Group) -> dict[str, Any]:
    """What `DeadLetterGroupAnswer` describes."""
    return {
        "kind": one.kind,
        "reason": one.reason,
        "count": one.count,
        "first_at": one.first_at,
        "last_at": one.last_at,
        "can_be_replayed": one.can_be_replayed,
    }
