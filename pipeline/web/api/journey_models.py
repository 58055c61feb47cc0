"""Parameters and responses of the routes that answer questions about the archive."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from pipeline.days import today
from pipeline.web.api.parameters import NO_NUL, Absent, EventType, PropertyName
from pipeline.web.api.queries import DaysQuery

DEFAULT_DAYS = 30
StepText = Annotated[str, StringConstraints(min_length=1, max_length=5_000, pattern=NO_NUL)]
ConditionText = Annotated[str, StringConstraints(min_length=1, max_length=4_000, pattern=NO_NUL)]


class ArchiveQuery(DaysQuery):
    """A question about the archive; of the last 30 days where none are given."""

    fresh: bool = Field(False, description="Archive first what waits")

    def days(self) -> tuple[dt.date, dt.date]:
        """The range."""
        return self.range() or (today() - dt.timedelta(days=DEFAULT_DAYS - 1), today())


class FunnelQuery(ArchiveQuery):
    """A funnel."""

    step: list[StepText] = Field(
        min_length=2,
        max_length=8,
        description="`TYPE` or `TYPE[conditions]`, once for each step",
        examples=[["page_view", 'signup[plan="pro"]']],
    )
    window: Annotated[str, StringConstraints(max_length=20)] = Field(
        "7d", description="From the first step to the last: a number and s, m, h or d, up to 90d"
    )
    any_order: bool = Field(False, description="The order of the steps does not matter")
    by: PropertyName | Absent = Field(
        None, description="Apart by the values of this property of the first step's event"
    )
    limit: int = Field(10, ge=1, le=100, description="How many values with `by`")


class BreakdownQuery(ArchiveQuery):
    """A breakdown."""

    event_type: EventType
    property_name: PropertyName | Absent = Field(
        None, alias="property", description="By the values of this property, counted or not"
    )
    where: ConditionText | Absent = Field(
        None, description="Of events that meet these conditions", examples=['plan = "pro"']
    )
    limit: int = Field(10, ge=1, le=10_000, description="How many values to list")


class FunnelStepAnswer(BaseModel):
    """A step."""

    event_type: str
    step: str = Field(description="As it was asked for")
    users: int = Field(ge=0, description="Who reached it")
    lost: int = Field(description="Who reached the step before and not this one")
    conversion: float | None = Field(description="Part of those of the step before")
    of_first: float | None = Field(description="Part of those of the first step")
    median_s: float | None = Field(description="Seconds since the step before; null for the first")


class FunnelValue(BaseModel):
    """The steps of the journeys that begin with events of a value."""

    value: str
    steps: list[FunnelStepAnswer]


AsOf = Annotated[dt.datetime | None, Field(description="Of the last archive run")]


class FunnelAnswer(BaseModel):
    """A funnel as of the last archive run."""

    steps: list[FunnelStepAnswer]
    values: list[FunnelValue] | None = None
    as_of: AsOf


class BreakdownValue(BaseModel):
    """A value and its events."""

    value: str
    count: int


class BreakdownAnswer(BaseModel):
    """A breakdown as of the last archive run: by value, or, without a property, of all."""

    breakdown: list[BreakdownValue] | None = None
    count: int
    users: int | None = None
    others: int | None = Field(None, description="Events of values that are not listed")
    without: int | None = Field(None, description="Events without the property")
    as_of: AsOf


class ReportAnswer(BaseModel):
    """A question that a worker answers."""

    report: str = Field(description="Its id: ask /api/reports/{id}")
    state: str = Field(description="waiting, running, done or failed")
    progress: float = Field(ge=0, le=1)
    result: dict[str, Any] | None = Field(description="The answer, once it is done")
    reason: str | None = Field(description="Why it failed")


REPORT: dict[int | str, dict[str, Any]] = {
    202: {"model": ReportAnswer, "description": "A worker answers; see `Location`"}
}
"""What a route may answer in place of what it was asked for."""
