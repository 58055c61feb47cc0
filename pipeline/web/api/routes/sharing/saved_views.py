"""Routes of the stats API about saved views: names for addresses of the dashboard."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from pipeline.services import Services
from pipeline.sharing.saved_views import MOST_NAME_CHARACTERS, MOST_URL_CHARACTERS, SavedViews
from pipeline.web.api.queries import TableQuery
from pipeline.web.api.read_tokens import require_edit_permission
from pipeline.web.api.response_models import TABLE, document_errors
from pipeline.web.api.routes.sharing.entries import Entry, describe_body, keep, read_entry
from pipeline.web.api.table_responses import CsvTable, respond
from pipeline.web.api.threads import ThreadPools
from pipeline.web.headers import NO_STORE
from pipeline.web.responses import json_response

_MOST_ID = 2**63 - 1
_COLUMNS = ("id", "name", "url", "changed_by", "changed_at")

ViewId = Annotated[int, Path(ge=1, le=_MOST_ID)]


class SavedViewEntry(Entry):
    """A name for an address of the dashboard."""

    name: str = Field(
        min_length=1,
        max_length=MOST_NAME_CHARACTERS,
        description="Plain text, one line",
        examples=["Sales of the week"],
    )
    url: str = Field(
        max_length=MOST_URL_CHARACTERS,
        description="Path and query of a page of the dashboard",
        examples=["/dashboard?range=7d&type=purchase"],
    )


class SavedViewAnswer(SavedViewEntry):
    """A saved view."""

    id: int
    changed_by: str = Field(description="Id of the read token that wrote it")
    changed_at: datetime


class SavedViewsAnswer(BaseModel):
    """Saved views, by name; there are at most 200."""

    saved_views: list[SavedViewAnswer]


def create_saved_view_routes(threads: ThreadPools, services: Services) -> APIRouter:
    """The routes; those that change something need a token that may edit."""
    router = APIRouter(tags=["saved views"], responses=document_errors(422))
    views = SavedViews(services.engine)
    may_edit = Depends(require_edit_permission)

    @router.get("/saved-views", response_model=SavedViewsAnswer, responses=TABLE)
    async def list_saved_views(request: Request, _: Annotated[TableQuery, Query()]) -> Response:
        """All saved views."""

        def read() -> Response:
            found = [one.describe() for one in views.list_all()]
            rows = [[one[name] for name in _COLUMNS] for one in found]
            return respond(request, {"saved_views": found}, CsvTable("views", _COLUMNS, rows))

        return await threads.run_lookup(request.state.key.id, 0, read)

    @router.post(
        "/saved-views",
        status_code=201,
        response_model=SavedViewAnswer,
        responses=document_errors(403, 413),
        dependencies=[may_edit],
        openapi_extra=describe_body(SavedViewEntry),
    )
    async def save_view(request: Request) -> Response:
        """Keep an address under a name; that of another view with the name is replaced. May be
        repeated.

        Needs a token that was made with `--allow-edit`.
        """
        entry = await read_entry(request, SavedViewEntry)

        def save() -> Response:
            found = keep(lambda: views.save(entry.name, entry.url, request.state.key.id))
            return json_response(found.describe(), 201, NO_STORE)

        return await threads.run_lookup(request.state.key.id, 0, save)

    @router.delete(
        "/saved-views/{view_id}",
        status_code=204,
        responses=document_errors(403),
        dependencies=[may_edit],
    )
    async def remove_view(request: Request, view_id: ViewId) -> Response:
        """Delete a saved view. May be repeated.

        Needs a token that was made with `--allow-edit`.
        """
        await threads.run_lookup(request.state.key.id, 0, lambda: views.remove(view_id))
        return Response(status_code=204, headers=NO_STORE)

    return router
