"""Route of the stats API about the pipeline itself: what waits, and what falls behind."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from pipeline.services import Services
from pipeline.web.api.response_models import StatusAnswer, document_errors
from pipeline.web.api.threads import ThreadPools
from pipeline.web.headers import NO_STORE
from pipeline.web.responses import json_response


def create_status_route(threads: ThreadPools, services: Services) -> APIRouter:
    """The route, which asks Redis alone, and RabbitMQ where that is the broker."""
    router = APIRouter(tags=["status"], responses=document_errors())

    @router.get("/status", response_model=StatusAnswer)
    async def status(request: Request) -> Response:
        """How many events and requests wait, since when, and how far behind flush and archive are;
        `warnings` has a line for what falls behind."""

        def read() -> Response:
            found = {"events_waiting": services.queue_depth(), **services.status_of_lanes()}
            return json_response(found, headers=NO_STORE)

        return await threads.run_lookup(request.state.key.id, 1, read)

    return router
