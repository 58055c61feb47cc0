"""Types of the stats API's parameters, in query and path, and the errors about them."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import BeforeValidator, Field, PlainValidator, StringConstraints, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from pipeline.contract import MAX_EVENT_TYPE_CHARACTERS, MAX_USER_ID_CHARACTERS
from pipeline.days import parse_day
from pipeline.reading.series.periods import FIRST_DAY, LAST_DAY
from pipeline.web.errors import InvalidParameter

_LONGEST_SHOWN = 80


def _parse_bounded_day(text: object) -> date:
    try:
        day = parse_day(str(text))
    except ValueError:
        raise ValueError(
            "is not a day; write one that exists as YYYY-MM-DD, such as 2026-01-31"
        ) from None
    if not FIRST_DAY <= day <= LAST_DAY:
        raise ValueError(f"is out of bounds; give a day from {FIRST_DAY} to {LAST_DAY}")
    return day


def _decode_segment(segment: object) -> str:
    """A segment of the path. Routes get it as it was sent, so that a slash within it differs from
    one that ends it."""
    try:
        return unquote(str(segment), errors="strict")
    except UnicodeDecodeError as error:
        raise ValueError("is no UTF-8; percent-encode the bytes of UTF-8") from error


Absent = SkipJsonSchema[None]
"""A query cannot say null, it can only leave a parameter out."""

_NO_CONTROL = r"^[^\x00-\x1f\x7f-\x9f]*$"
NO_NUL = r"^[^\x00]*$"

Day = Annotated[
    date, PlainValidator(_parse_bounded_day), WithJsonSchema({"type": "string", "format": "date"})
]
EventType = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_EVENT_TYPE_CHARACTERS, pattern=_NO_CONTROL),
    Field(description="Event type, such as page_view", examples=["page_view"]),
]
UserId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_USER_ID_CHARACTERS, pattern=NO_NUL),
]
UserInPath = Annotated[UserId, BeforeValidator(_decode_segment)]
PropertyName = Annotated[str, StringConstraints(min_length=1, max_length=1_000, pattern=NO_NUL)]
PropertyInPath = Annotated[PropertyName, BeforeValidator(_decode_segment)]
ValueInPath = Annotated[
    str,
    BeforeValidator(_decode_segment),
    # Percent-encoded still within the 64 KiB that a request's head may have.
    StringConstraints(min_length=1, max_length=3_000),
]


def explain_validation_errors(errors: Any) -> InvalidParameter:
    """The error response to what pydantic found wrong: about the first of it."""
    first = errors[0]
    names = [str(name) for name in first["loc"][1:]] or [str(name) for name in first["loc"]]
    field, given = names[0], first.get("input")
    if first["type"] == "missing":
        return InvalidParameter(field, "is required; add it to the query")
    if first["type"] == "extra_forbidden":
        return InvalidParameter(field, "there is no such parameter; /docs lists those there are")
    reason = str(first["msg"]).removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:]
    shown = ascii(given)
    shown = shown if len(shown) <= _LONGEST_SHOWN else shown[:_LONGEST_SHOWN] + "…"
    return InvalidParameter(
        field, f"{shown} {reason}" if reason.startswith("is ") else f"{reason} (got {shown})"
    )
