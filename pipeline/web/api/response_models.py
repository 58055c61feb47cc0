"""The stats API's responses as its OpenAPI document describes them, under these class names.

Responses are not checked against them at run time; the tests do that.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from pydantic import BaseModel, Field

Count = Annotated[int, Field(ge=0, description="Events, exact at this moment, flushed or not")]


class ErrorDetails(BaseModel):
    """What was wrong."""

    code: str
    message: str
    field: str | None = None


class ErrorAnswer(BaseModel):
    """Every answer that is an error."""

    error: ErrorDetails


class CountAnswer(BaseModel):
    """A count over a range."""

    event_type: str
    first: dt.date = Field(alias="from")
    last: dt.date = Field(alias="to")
    count: Count


class HourlyAnswer(BaseModel):
    """The hours of a day, UTC."""

    event_type: str
    date: dt.date
    counts: Annotated[list[Count], Field(min_length=24, max_length=24)]


class SeriesPoint(BaseModel):
    """A point of a series."""

    at: str = Field(
        description="The hour or quarter hour (ISO 8601), the day, the Monday of the week, the "
        "first of the month"
    )
    count: Count


class Period(BaseModel):
    """A range and what happened in it."""

    first: dt.date = Field(alias="from")
    last: dt.date = Field(alias="to")
    count: Count
    series: list[SeriesPoint]


class SeriesAnswer(Period):
    """A series, and that of the period it is compared with where it was asked for."""

    event_type: str
    granularity: str
    time_zone: str
    previous: Period | None


class CountedType(BaseModel):
    """An event type in a range."""

    event_type: str
    count: Count
    previous: int | None = Field(
        ge=0, description="In the period it is compared with; null: in none"
    )


class OverviewAnswer(Period):
    """All event types in a range: together, by time, and each of them, most first."""

    granularity: str
    time_zone: str
    previous: Period | None
    types: list[CountedType] = Field(description="Those of which any range has events")
    more: int = Field(ge=0, description="How many more there are")


class Ranked(BaseModel):
    """One line of a ranking."""

    value: str
    count: Count


class TopAnswer(BaseModel):
    """A ranking as of the last flush."""

    event_type: str
    of: str
    as_of: dt.datetime | None = Field(description="Of the last flush; null: there was none yet")
    top: list[Ranked]
    counted: bool = Field(
        True, description="false: values of this property are not counted; absent when they are"
    )


_MoreTypes = Annotated[
    int, Field(description="Event types left out, past the 1,000 largest; absent when none is")
]


class UserAnswer(BaseModel):
    """All that a user did."""

    user_id: str
    count: Count
    first_day: dt.date | None
    last_day: dt.date | None
    event_types: dict[str, Count]
    more_types: _MoreTypes = 0


class UserCountsAnswer(BaseModel):
    """All that a user did, by event type and day; days without events are left out."""

    user_id: str
    counts: dict[str, dict[dt.date, Count]]
    more_types: _MoreTypes = 0


class DayCount(BaseModel):
    """A day's count."""

    date: dt.date
    count: Count


class PropertyAnswer(BaseModel):
    """How often a property had a value."""

    event_type: str
    property: str
    value: str
    first: dt.date = Field(alias="from")
    last: dt.date = Field(alias="to")
    count: Count
    days: list[DayCount]
    counted: bool = Field(description="Whether values of this property are counted at present")


class RawEvent(BaseModel):
    """An archived event."""

    event_type: str
    timestamp: dt.datetime
    user_id: str | None = None
    properties: dict[str, Any] | None = None
    event_id: str | None = None


class EventsAnswer(BaseModel):
    """A page of events, newest first."""

    events: list[RawEvent]
    next: str | None = Field(description="`cursor` of the next page; null: this is the last")


class ForgottenAnswer(BaseModel):
    """What was removed of a user this time."""

    user_id: str
    forgotten_at: dt.datetime
    counters: int = Field(ge=0, description="Counters of the user that were removed")
    live_counters: int = Field(ge=0, description="Those of them that were in Redis")
    stored_counters: int = Field(ge=0, description="Those of them that were in the tables")
    events: int = Field(ge=0, description="Archived events that no longer name the user")
    dead_letters: int = Field(ge=0, description="Dead letters of the user that were dropped")


class LaneStatus(BaseModel):
    """A lane: what asks for its runs, and how far behind they are."""

    waiting: int | None = Field(ge=0, description="Requests that wait; null with RabbitMQ")
    waiting_s: float = Field(ge=0, description="For how long the oldest of them has waited")
    asked_s: float | None = Field(ge=0, description="How long ago a run was asked for; null: never")
    running_s: float | None = Field(ge=0, description="For how long a run is under way, if one is")
    tried_s: float | None = Field(
        ge=0,
        description="For how long runs have begun and none ended well, or stored anything; null: "
        "the last one did",
    )
    runs: int = Field(ge=0, description="Runs so far")
    took_s: float = Field(ge=0, description="What the last run took")
    behind_s: float | None = Field(
        ge=0, description="For how long a counter or a raw event may have waited"
    )


def document_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that every route may answer, and those named, for OpenAPI."""
    meanings = {
        401: "No valid read token was given",
        403: "The token may not do this",
        404: "Nothing of this id is there",
        409: "What was asked for was counted by the hour only; the error says what to do",
        413: "The body is too large",
        422: "A parameter cannot be used; the error names it",
        429: "Too many at once; come back after `Retry-After` seconds",
        503: "Redis or Postgres does not answer; come back after `Retry-After` seconds",
    }
    return {
        status: {"model": ErrorAnswer, "description": meanings[status]}
        for status in (401, *statuses, 503)
    }


TABLE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "JSON, or a table as CSV",
        "content": {"text/csv": {"schema": {"type": "string"}}},
    },
    304: {"description": "What the client has (`If-None-Match`) is what there is"},
}
"""Of routes that answer CSV too."""
