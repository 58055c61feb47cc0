"""What a request to the stats API may ask, and how the answers are described to OpenAPI."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.json_schema import SkipJsonSchema

from pipeline.contract import MAX_EVENT_TYPE_CHARACTERS, MAX_USER_ID_CHARACTERS
from pipeline.web.answers import Refused
from pipeline.web.api.periods import FIRST_DAY, LAST_DAY, Granularity

MOST_DAYS = 3_660
"""Ten years. A read asks Redis for every day of its range in one step, which holds up everybody."""
MOST_DAYS_BY_HOUR = 800
"""The same for what is made of hours."""
MOST_LIVE_TYPES = 100


def _day(text: object) -> date:
    try:
        day = date.fromisoformat(str(text))
    except ValueError:
        day = None
    # Python also reads 20260131 and 2026-W05-6.
    if day is None or day.isoformat() != text:
        raise ValueError("is not a day; write one that exists as YYYY-MM-DD, such as 2026-01-31")
    if not FIRST_DAY <= day <= LAST_DAY:
        raise ValueError(f"is out of bounds; give a day from {FIRST_DAY} to {LAST_DAY}")
    return day


def _decoded(segment: object) -> str:
    """A part of the path, which routes see as it was sent, so that a slash within it is told from
    one that ends it."""
    try:
        return unquote(str(segment), errors="strict")
    except UnicodeDecodeError as error:
        raise ValueError("is no UTF-8; percent-encode the bytes of UTF-8") from error


Absent = SkipJsonSchema[None]
"""A query cannot say null, it can only leave a parameter out."""

_NO_CONTROL = r"^[^\x00-\x1f\x7f-\x9f]*$"
_NO_NUL = r"^[^\x00]*$"

Day = Annotated[date, PlainValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]
EventType = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_EVENT_TYPE_CHARACTERS, pattern=_NO_CONTROL),
    Field(description="Event type, such as page_view", examples=["page_view"]),
]
UserId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_USER_ID_CHARACTERS, pattern=_NO_NUL),
]
UserInPath = Annotated[UserId, BeforeValidator(_decoded)]
PropertyName = Annotated[str, StringConstraints(min_length=1, max_length=1_000, pattern=_NO_NUL)]
PropertyInPath = Annotated[PropertyName, BeforeValidator(_decoded)]
ValueInPath = Annotated[
    str,
    BeforeValidator(_decoded),
    # Percent-encoded still within the 64 KiB that a request's head may have.
    StringConstraints(min_length=1, max_length=3_000, pattern=_NO_NUL),
]


class _Query(BaseModel):
    """Parameters of a query; unknown ones are refused, since a misspelt one would be missed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Formatted(_Query):
    """Of an answer that is a table."""

    format: Literal["json", "csv"] | Absent = Field(
        None, description="`csv` for a table; without it, the Accept header decides"
    )


class Days(Formatted):
    """A range of days."""

    first: Day | Absent = Field(None, alias="from", description="First day, UTC")
    last: Day | Absent = Field(
        None, alias="to", description="Last day, UTC, counted too; today when left out"
    )

    def range(self, most: int = MOST_DAYS) -> tuple[date, date] | None:
        """The days, None when none was given. Raises `Refused` for a range that is none."""
        if self.first is None:
            if self.last is not None:
                raise invalid(
                    "to", f"{self.last} ends a range that has no beginning; add from=YYYY-MM-DD"
                )
            return None
        first, last = self.first, self.last or today()
        if first > last:
            raise invalid(
                "from", f"{first} is after the last day, {last}; give the earlier day first"
            )
        if (last - first).days >= most:
            raise invalid(
                "from",
                f"{first} is {(last - first).days + 1} days before the end; ask for at most "
                f"{most} days at a time",
            )
        return first, last


class OfType(Days):
    """Events of a type in a range of days."""

    event_type: EventType

    def days(self) -> tuple[date, date]:
        """The range; today when none was given."""
        return self.range() or (today(), today())


class OneDay(Formatted):
    """Events of a type on a day."""

    event_type: EventType
    date: Day | Absent = Field(None, description="The day, UTC; today when left out")


class SeriesQuery(OfType):
    """A series."""

    granularity: Granularity = Field("day", description="The step from point to point")
    time_zone: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        "UTC",
        description="IANA name of the zone whose days, weeks and months are meant; it has to be "
        "whole hours from UTC",
        examples=["Europe/Berlin"],
    )
    compare: Literal["previous"] | Absent = Field(
        None,
        description="`previous` adds the period directly before: as many months where the range "
        "is whole months, else as many days",
    )


class TopQuery(OfType):
    """A ranking."""

    of: PropertyName = Field("user", description="`user`, or the name of a counted property")
    limit: int = Field(10, ge=1, le=1_000, description="How many to list")
    fresh: bool = Field(False, description="Flush first")


class PropertyQuery(OfType):
    """Counts of a value."""


class UserQuery(Days):
    """Counts of a user."""

    pseudonym: bool = Field(
        False, description="The id is a pseudonym already, as rankings and events show it"
    )


class ForgetQuery(_Query):
    """Which user."""

    pseudonym: bool = Field(
        False, description="The id is a pseudonym already, as rankings and events show it"
    )


class EventsQuery(Days):
    """Archived events, page by page."""

    event_type: EventType | Absent = None
    user_id: UserId | Absent = Field(None, description="Of this user")
    pseudonym: bool = Field(False, description="`user_id` is a pseudonym already")
    limit: int = Field(100, ge=1, le=1_000, description="Events on a page")
    cursor: Annotated[str, StringConstraints(min_length=1, max_length=200)] | Absent = Field(
        None, description="`next` of the page before; the other parameters stay the same"
    )
    fresh: bool = Field(False, description="Archive first what waits")


class LiveQuery(_Query):
    """Counts as they change."""

    event_type: list[EventType] = Field(
        default_factory=list,
        max_length=MOST_LIVE_TYPES,
        description="Of these event types; of all when left out",
    )
    token: Annotated[str, StringConstraints(min_length=1, max_length=200)] | Absent = Field(
        None, description="The read token, for EventSource, which sends no header"
    )


def today() -> date:
    """Today in UTC, as everything here is counted."""
    return datetime.now(UTC).date()


def invalid(field: str, reason: str) -> Refused:
    """The answer to a parameter that cannot be used."""
    return Refused(422, "invalid", f"{field}: {reason}", field=field)


def explained(errors: Any) -> Refused:
    """The same from what pydantic found wrong: the first of it."""
    first = errors[0]
    names = [str(name) for name in first["loc"][1:]] or [str(name) for name in first["loc"]]
    field, given = names[0], first.get("input")
    if first["type"] == "missing":
        return invalid(field, "is required; add it to the query")
    if first["type"] == "extra_forbidden":
        return invalid(field, "there is no such parameter; /docs lists those there are")
    reason = str(first["msg"]).removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:]
    shown = ascii(given)
    shown = shown if len(shown) <= 80 else shown[:80] + "…"
    return invalid(
        field, f"{shown} {reason}" if reason.startswith("is ") else f"{reason} (got {shown})"
    )
