"""What viewers keep, sent as JSON: read no further than it can be long, and refused by field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import InvalidEntry
from pipeline.web.api.parameters import explain_validation_errors
from pipeline.web.collector.bodies import read_body
from pipeline.web.errors import InvalidParameter

_MOST_BYTES = 16 * 1024
_Found = TypeVar("_Found")


class Entry(BaseModel):
    """The fields of an entry; others are refused."""

    model_config = ConfigDict(extra="forbid")


_Entry = TypeVar("_Entry", bound=Entry)


async def read_entry(request: Request, model: type[_Entry]) -> _Entry:
    """The entry in the body of a request. Called by a route after the token was checked.

    Raises `InvalidParameter`, `TooLarge`.
    """
    body = await read_body(request.receive, _MOST_BYTES, lambda _: None)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _explain(error, " and ".join(model.model_fields)) from error


def keep(work: Callable[[], _Found]) -> _Found:
    """What `work` returns, which keeps an entry. Raises `InvalidParameter` where it cannot be."""
    try:
        return work()
    except InvalidEntry as error:
        raise InvalidParameter(error.field, error.reason) from error


def describe_body(model: type[Entry]) -> dict[str, Any]:
    """The body for OpenAPI, which knows nothing of what a route reads itself."""
    schema = model.model_json_schema()
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
    }


def _explain(error: ValidationError, fields: str) -> InvalidParameter:
    details: list[Any] = error.errors()
    if details[0]["type"] == "json_invalid":
        return InvalidParameter("body", f"is no JSON; send an object with {fields}")
    if not details[0]["loc"]:
        return InvalidParameter("body", f"is no object; send one with {fields}")
    return explain_validation_errors(details)
