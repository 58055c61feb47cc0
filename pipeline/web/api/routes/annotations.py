"""Routes of the stats API about annotations: notes at a moment, which charts show."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from pipeline.errors import InvalidEntry
from pipeline.services import Services
from pipeline.sharing.annotations import MOST_CHARACTERS, Annotations
from pipeline.web.api.parameters import explain_validation_errors
from pipeline.web.api.queries import DaysQuery
from pipeline.web.api.read_tokens import require_edit_permission
from pipeline.web.api.response_models import TABLE, document_errors
from pipeline.web.api.table_responses import CsvTable, respond
from pipeline.web.api.threads import ThreadPools
from pipeline.web.collector.bodies import read_body
from pipeline.web.errors import InvalidParameter
from pipeline.web.headers import NO_STORE
from pipeline.web.responses import json_response

_MOST_BYTES = 16 * 1024
_MOST = 1_000
_MOST_ID = 2**63 - 1
_COLUMNS = ("id", "at", "text", "changed_by", "changed_at")

AnnotationId = Annotated[int, Path(ge=1, le=_MOST_ID)]


class AnnotationEntry(BaseModel):
    """A note at a moment."""

    model_config = ConfigDict(extra="forbid")

    at: AwareDatetime = Field(description="ISO 8601 with a zone", examples=["2026-03-14T12:00:00Z"])
    text: str = Field(
        min_length=1,
        max_length=MOST_CHARACTERS,
        description="Plain text, one line",
        examples=["Version 2 went out"],
    )


class AnnotationAnswer(AnnotationEntry):
    """An annotation."""

    id: int
    changed_by: str = Field(description="Id of the read token that wrote it")
    changed_at: datetime


class AnnotationsAnswer(BaseModel):
    """Annotations, the latest moment first; at most 1,000."""

    annotations: list[AnnotationAnswer]


def create_annotation_routes(threads: ThreadPools, services: Services) -> APIRouter:
    """The routes; those that change something need a token that may edit."""
    router = APIRouter(tags=["annotations"], responses=document_errors(422))
    annotations = Annotations(services.engine)
    may_edit = Depends(require_edit_permission)

    @router.get("/annotations", response_model=AnnotationsAnswer, responses=TABLE)
    async def list_annotations(request: Request, query: Annotated[DaysQuery, Query()]) -> Response:
        """The annotations of a range of days; without one, of all."""
        limits = _bound(query)

        def read() -> Response:
            found = [one.describe() for one in annotations.list_newest(**limits, most=_MOST)]
            rows = [[one[name] for name in _COLUMNS] for one in found]
            return respond(request, {"annotations": found}, CsvTable("annotations", _COLUMNS, rows))

        return await threads.run_lookup(request.state.key.id, 0, read)

    @router.post(
        "/annotations",
        status_code=201,
        response_model=AnnotationAnswer,
        responses=document_errors(403, 413),
        dependencies=[may_edit],
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": AnnotationEntry.model_json_schema()}},
            }
        },
    )
    async def add_annotation(request: Request) -> Response:
        """Keep a note at a moment. May be repeated: the same text at the same moment is one
        annotation.

        Needs a token that was made with `--allow-edit`.
        """
        # Read here, after the token was checked and no further than a note can be long.
        body = await read_body(request.receive, _MOST_BYTES, lambda _: None)
        try:
            entry = AnnotationEntry.model_validate_json(body)
        except ValidationError as error:
            raise _explain(error) from error

        def add() -> Response:
            try:
                found = annotations.add(entry.at, entry.text, request.state.key.id)
            except InvalidEntry as error:
                raise InvalidParameter(error.field, error.reason) from error
            return json_response(found.describe(), 201, NO_STORE)

        return await threads.run_lookup(request.state.key.id, 0, add)

    @router.delete(
        "/annotations/{annotation_id}",
        status_code=204,
        responses=document_errors(403),
        dependencies=[may_edit],
    )
    async def remove_annotation(request: Request, annotation_id: AnnotationId) -> Response:
        """Delete an annotation. May be repeated.

        Needs a token that was made with `--allow-edit`.
        """
        await threads.run_lookup(request.state.key.id, 0, lambda: annotations.remove(annotation_id))
        return Response(status_code=204, headers=NO_STORE)

    return router


def _bound(query: DaysQuery) -> dict[str, Any]:
    """The moments between which annotations are listed; none without a range."""
    days = query.range()
    if days is None:
        return {}
    begin, last = (datetime.combine(day, time(), UTC) for day in days)
    return {"begin": begin, "end": last + timedelta(days=1)}


def _explain(error: ValidationError) -> InvalidParameter:
    details: list[Any] = error.errors()
    if details[0]["type"] == "json_invalid":
        return InvalidParameter("body", "is no JSON; send an object with at and text")
    if not details[0]["loc"]:
        return InvalidParameter("body", "is no object; send one with at and text")
    return explain_validation_errors(details)
