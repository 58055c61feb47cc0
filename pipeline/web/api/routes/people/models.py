"""What the routes that count people take and answer, as OpenAPI describes it."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import BaseModel, Field

from pipeline.days import today
from pipeline.reading.people.users import Period
from pipeline.web.api.journey_models import StepText
from pipeline.web.api.parameters import Absent, Day, EventType
from pipeline.web.api.queries import DaysQuery, TableQuery

_MOST_TYPES = 100
_COHORT_DAYS = 29

People = Annotated[int, Field(ge=0, description="Distinct users, exact as of the last flush")]
AsOf = Annotated[
    dt.datetime | None, Field(description="Of the last flush; null: there was none yet")
]
CountedFrom = Annotated[
    dt.date,
    Field(description="Rows of users from before this day were pruned; absent when none were"),
]


class UsersQuery(DaysQuery):
    """Distinct users in a range of days."""

    event_type: list[EventType] = Field(
        default_factory=list,
        max_length=_MOST_TYPES,
        description="Users who did one of these; of any event when left out",
    )
    by: Period | Absent = Field(None, description="Also for each day, week or month")
    fresh: bool = Field(False, description="Flush first")

    def days(self) -> tuple[dt.date, dt.date]:
        """The range; today when none was given."""
        return self.range() or (today(), today())


class ActiveQuery(TableQuery):
    """Active users as of a day."""

    date: Day | Absent = Field(None, description="The day, UTC; today when left out")
    fresh: bool = Field(False, description="Flush first")


class RetentionQuery(DaysQuery):
    """Who came back; of the last 30 days when no range is given."""

    start: StepText = Field(description="`TYPE`, or `TYPE[conditions]`, which reads the archive")
    return_: StepText = Field(alias="return", description="What counts as coming back, the same")
    by: Period = Field("day", description="The length of a period; weeks begin on Monday")
    fresh: bool = Field(False, description="Flush first, or archive")

    def days(self) -> tuple[dt.date, dt.date]:
        """The range."""
        return self.range() or (today() - dt.timedelta(days=_COHORT_DAYS), today())


class UsersOfRange(BaseModel):
    """Distinct users."""

    users: People
    new: People = Field(description="Those who were not seen before")
    returning: People = Field(description="Those who were")


class UsersOfPeriod(UsersOfRange):
    """Distinct users of a day, week or month."""

    at: dt.date


class UsersAnswer(UsersOfRange):
    """Distinct users of a range, and of its periods where they were asked for."""

    event_types: list[str]
    first: dt.date = Field(alias="from")
    last: dt.date = Field(alias="to")
    series: list[UsersOfPeriod] = Field([], description="Absent without `by`")
    as_of: AsOf
    counted_from: CountedFrom = dt.date.min


class ActiveAnswer(BaseModel):
    """Active users."""

    date: dt.date
    dau: People = Field(description="On the day")
    wau: People = Field(description="In the 7 days that it ends")
    mau: People = Field(description="In the 30 days that it ends")
    stickiness: float | None = Field(description="dau / mau; null when mau is 0")
    as_of: AsOf
    counted_from: CountedFrom = dt.date.min


class CohortAnswer(BaseModel):
    """Those who did the first thing in a period."""

    start: dt.date
    users: People
    returned: list[People] = Field(
        description="How many of them did the second in the same period, the next one, and so on"
    )


class RetentionAnswer(BaseModel):
    """Who came back."""

    start: str
    return_: str = Field(alias="return")
    by: str
    cohorts: list[CohortAnswer]
    as_of: AsOf
    counted_from: CountedFrom = dt.date.min
