"""Routes of the stats API about what was seen: event types, and the properties of their events."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from pipeline.days import today
from pipeline.reading.catalogue import CatalogueReader
from pipeline.reading.event_types import TypeReader
from pipeline.services import Services
from pipeline.web.api.parameters import EventType
from pipeline.web.api.queries import TableQuery
from pipeline.web.api.response_models import TABLE, Count, document_errors
from pipeline.web.api.table_responses import CACHE_SHORTLY, REVALIDATE, CsvTable, respond
from pipeline.web.api.threads import ThreadPools

_Limit = Annotated[int, Field(ge=1, le=1_000, description="How many to list")]
_More = Annotated[int, Field(ge=0, description="How many more there are")]


class TypesQuery(TableQuery):
    """Event types."""

    limit: _Limit = 50


class PropertiesQuery(TableQuery):
    """Properties of a type."""

    event_type: EventType
    limit: _Limit = 50
    fresh: bool = Field(False, description="Archive and flush first")


class SeenType(BaseModel):
    """An event type."""

    event_type: str
    count: Count
    last: dt.datetime = Field(
        description="Of the newest event; the beginning of its quarter hour until it is archived"
    )


class TypesAnswer(BaseModel):
    """Event types, the largest first."""

    types: list[SeenType]
    more: _More
    as_of: None = Field(description="null: exact at this moment")


class SeenValue(BaseModel):
    """A frequent value."""

    value: str
    count: int = Field(ge=1)


class SeenProperty(BaseModel):
    """A property of a type."""

    property: str
    events: int | None = Field(description="Archived events that had it; null: none is known")
    last: dt.datetime | None = Field(description="Of the newest of them")
    counted: bool = Field(description="Whether its values are counted")
    summed: bool = Field(description="Whether its numbers are summed")
    values: list[SeenValue] = Field(
        description="The most frequent: of the last 30 days where they are counted, else of the "
        "sample"
    )
    sampled: bool = Field(description="Whether `values` are of the sample")


class PropertiesAnswer(BaseModel):
    """The properties of a type, those that most events had first."""

    event_type: str
    properties: list[SeenProperty]
    more: _More
    events: int = Field(ge=0, description="Archived events of the type, also those pruned by now")
    since: dt.datetime | None = Field(description="Those archived before are left out; null: none")
    as_of: dt.datetime | None = Field(description="Of the last archive run; null: there was none")
    values_as_of: dt.datetime | None = Field(description="Of the last flush, for counted values")
    sample: int = Field(ge=0, description="Events in the sample, the newest archived ones")


def create_catalogue_routes(
    types_seen: TypeReader, threads: ThreadPools, services: Services
) -> APIRouter:
    """The routes; `services` archives and flushes where fresh properties are asked for."""
    catalogue = CatalogueReader(services.engine, services.options.counters)
    router = APIRouter(tags=["catalogue"], responses=TABLE | document_errors(422))

    @router.get("/stats/types", response_model=TypesAnswer)
    async def types(request: Request, query: Annotated[TypesQuery, Query()]) -> Response:
        """Which event types were seen, how often each, and when last."""

        def read() -> Response:
            listed, how_many = types_seen.list_largest(today(), query.limit)
            rows = [(one.event_type, one.total, one.last.isoformat()) for one in listed]
            columns = ("event_type", "count", "last")
            found = {
                "types": [dict(zip(columns, row, strict=True)) for row in rows],
                "more": how_many - len(rows),
                "as_of": None,
            }
            return respond(request, found, CsvTable("types", columns, rows))

        return await threads.run_scan(request.state.key.id, read)

    @router.get("/stats/properties", response_model=PropertiesAnswer)
    async def properties(request: Request, query: Annotated[PropertiesQuery, Query()]) -> Response:
        """Which properties the archived events of a type had, and their most frequent values."""
        if query.fresh:
            await threads.run_job(request.state.key.id, services.archive_events)
            await threads.run_job(request.state.key.id, services.flush)

        def read() -> Response:
            found = catalogue.list_properties(query.event_type, today(), query.limit)
            table = CsvTable("properties", found.COLUMNS, found.list_rows())
            answer = {"event_type": query.event_type, **found.to_object()}
            return respond(request, answer, table, REVALIDATE if query.fresh else CACHE_SHORTLY)

        return await threads.run_scan(request.state.key.id, read)

    return router
