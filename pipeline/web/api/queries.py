"""Which parameters each route of the stats API takes, and how OpenAPI describes them."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pipeline.days import MOST_DAYS, check_range, today
from pipeline.reading.series.periods import Compared, Granularity
from pipeline.web.api.parameters import Absent, Day, EventType, PropertyName, UserId
from pipeline.web.errors import InvalidParameter

MOST_ROWS = 20_000
"""Of one answer: a megabyte or two."""
MAX_LIVE_TYPES = 100


class _Query(BaseModel):
    """Parameters of a query; unknown ones are refused, since a misspelt one would be missed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TableQuery(_Query):
    """A response that is a table."""

    format: Literal["json", "csv"] | Absent = Field(
        None, description="`csv` for a table; without it, the Accept header decides"
    )


class DaysQuery(TableQuery):
    """A range of days."""

    first: Day | Absent = Field(None, alias="from", description="First day, UTC")
    last: Day | Absent = Field(
        None, alias="to", description="Last day, UTC, counted too; today when left out"
    )

    def range(self, max_days: int = MOST_DAYS, end: date | None = None) -> tuple[date, date] | None:
        """The days, None when none was given; the last is `end`, or today (UTC), when left out.
        Raises `InvalidParameter` for a wrong range."""
        if self.first is None:
            if self.last is not None:
                raise InvalidParameter(
                    "to", f"{self.last} ends a range that has no beginning; add from=YYYY-MM-DD"
                )
            return None
        first, last = self.first, self.last or end or today()
        try:
            check_range(first, last, max_days)
        except ValueError as error:
            raise InvalidParameter("from", f"{first} {error}") from error
        return first, last


class CountQuery(DaysQuery):
    """Events of a type in a range of days."""

    event_type: EventType

    def days(self) -> tuple[date, date]:
        """The range; today when none was given."""
        return self.range() or (today(), today())


class HourlyQuery(TableQuery):
    """Events of a type on a day."""

    event_type: EventType
    date: Day | Absent = Field(None, description="The day, UTC; today when left out")


class StepsQuery(DaysQuery):
    """A range in steps, and what it is compared with."""

    granularity: Granularity = Field("day", description="The step from point to point")
    time_zone: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        "UTC",
        description="IANA name of the zone whose hours, days, weeks and months are meant",
        examples=["Europe/Berlin", "Asia/Kolkata"],
    )
    compare: Compared | Absent = Field(
        None,
        description="`previous` adds the period directly before: as many months where the range "
        "is whole months, else as many days; `year` the same days a year before; `weekdays` the "
        "same weekdays 52 weeks before",
    )


class SeriesQuery(StepsQuery):
    """A series."""

    event_type: EventType


class OverviewQuery(StepsQuery):
    """All event types at once."""

    limit: int = Field(50, ge=1, le=1_000, description="How many event types to list")


class TopQuery(CountQuery):
    """A ranking."""

    of: PropertyName = Field("user", description="`user`, or the name of a counted property")
    limit: int = Field(10, ge=1, le=1_000, description="How many to list")
    fresh: bool = Field(False, description="Flush first")


class PropertyQuery(CountQuery):
    """Counts of a value."""


class UserQuery(DaysQuery):
    """Counts of a user."""

    pseudonym: bool = Field(
        False, description="The id is a pseudonym already, as rankings and events show it"
    )


class EraseQuery(_Query):
    """Which user."""

    pseudonym: bool = Field(
        False, description="The id is a pseudonym already, as rankings and events show it"
    )


class EventsQuery(DaysQuery):
    """Archived events, page by page."""

    event_type: EventType | Absent = None
    user_id: UserId | Absent = Field(None, description="Of this user")
    pseudonym: bool = Field(False, description="`user_id` is a pseudonym already")
    limit: int = Field(
        100, ge=1, le=1_000, description="Events on a page; fewer where they are large"
    )
    cursor: Annotated[str, StringConstraints(min_length=1, max_length=200)] | Absent = Field(
        None, description="`next` of the page before; the other parameters stay the same"
    )
    fresh: bool = Field(False, description="Archive first what waits")


class LiveQuery(_Query):
    """Counts as they change."""

    event_type: list[EventType] = Field(
        default_factory=list,
        max_length=MAX_LIVE_TYPES,
        description="Of these event types; of all when left out",
    )
    token: Annotated[str, StringConstraints(min_length=1, max_length=200)] | Absent = Field(
        None, description="The read token, for EventSource, which sends no header"
    )
