"""Routes of the stats API about annotations: notes at a moment, which charts show."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, Field
from starlette.responses import Response

from pipeline.services import Services
from pipeline.sharing.annotations import MOST_CHARACTERS, Annotations
from pipeline.web.api.queries import DaysQuery
from pipeline.web.api.read_tokens import require_edit_permission
from pipeline.web.api.response_models import TABLE, document_errors
from pipeline.web.api.routes.sharing.entries import Entry, describe_body, keep, read_entry
from pipeline.web.api.table_responses import CsvTable, respond
from pipeline.web.api.threads import ThreadPools
from pipeline.web.headers import NO_STORE
from pipeline.web.responses import json_response

_MOST = 1_000
_MOST_ID = 2**63 - 1
_COLUMNS = ("id", "at", "text", "changed_by", "changed_at")

AnnotationId = Annotated[int, Path(ge=1, le=_MOST_ID)]


class AnnotationEntry(Entry):
    """A note at a moment."""

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
        openapi_extra=describe_body(AnnotationEntry),
    )
    async def add_annotation(request: Request) -> Response:
        """Keep a note at a moment. May be repeated: the same text at the same moment is one
        annotation.

        Needs a token that was made with `--allow-edit`.
        """
        entry = await read_entry(request, AnnotationEntry)

        def add() -> Response:
            found = keep(lambda: annotations.add(entry.at, entry.text, request.state.key.id))
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
