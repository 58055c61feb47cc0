"""Routes of the stats API about the pipeline itself: whether all events are accounted for, what
waits and what falls behind, which workers live, and what could not be counted."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from pipeline.services import Services
from pipeline.upkeep import dead_letters
from pipeline.upkeep.dead_letter_groups import list_groups
from pipeline.upkeep.heartbeats import list_workers
from pipeline.web.api.response_models import document_errors
from pipeline.web.api.routes.pipeline_state.models import (
    DeadLettersAnswer,
    StatusAnswer,
    WorkersAnswer,
    to_group,
    to_status,
    to_worker,
)
from pipeline.web.api.threads import ThreadPools
from pipeline.web.headers import NO_STORE
from pipeline.web.pipeline_status import StatusReader
from pipeline.web.responses import json_response

_MOST_GROUPS = 100


def create_status_routes(threads: ThreadPools, services: Services) -> APIRouter:
    """The routes. Status and workers answer while Postgres is away."""
    router = APIRouter(tags=["status"], responses=document_errors())
    reader = StatusReader(services)

    @router.get("/status", response_model=StatusAnswer)
    async def status(request: Request) -> Response:
        """Whether all events are accounted for (`summary`), or what is wrong and what to do
        (`findings`); how many are at each stage, and were in the last hour; how far behind flush
        and archive are, with `warnings`."""

        def read() -> Response:
            return json_response(to_status(reader.read()), headers=NO_STORE)

        return await threads.run_lookup(request.state.key.id, 1, read)

    @router.get("/workers", response_model=WorkersAnswer)
    async def workers(request: Request) -> Response:
        """Which workers live, as they say every few seconds."""

        def read() -> Response:
            found = list_workers(services.redis, services.keys)
            return json_response({"workers": [to_worker(one) for one in found]}, headers=NO_STORE)

        return await threads.run_lookup(request.state.key.id, 1, read)

    @router.get("/dead-letters", response_model=DeadLettersAnswer)
    async def letters(request: Request) -> Response:
        """What could not be counted, by reason: the 100 most frequent."""

        def read() -> Response:
            found = {
                "groups": [to_group(one) for one in list_groups(services.engine, _MOST_GROUPS)],
                "total": dead_letters.count_stored(services.engine),
                "waiting": dead_letters.count_waiting(services.redis, services.keys),
            }
            return json_response(found, headers=NO_STORE)

        return await threads.run_scan(request.state.key.id, read)

    return router
