"""Routes of the stats API about a user: what they did, and to erase them."""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from pipeline.errors import InvalidEvent
from pipeline.event.pseudonyms import list_forms
from pipeline.reading.stats import Stats, keep_largest
from pipeline.services import Services
from pipeline.web.api.parameters import UserInPath
from pipeline.web.api.queries import MOST_ROWS, EraseQuery, UserQuery
from pipeline.web.api.read_tokens import require_erase_permission
from pipeline.web.api.response_models import (
    TABLE,
    ForgottenAnswer,
    UserAnswer,
    UserCountsAnswer,
    document_errors,
)
from pipeline.web.api.table_responses import CsvTable, respond
from pipeline.web.api.threads import ThreadPools
from pipeline.web.errors import InvalidParameter
from pipeline.web.headers import NO_STORE
from pipeline.web.responses import json_response

User = Annotated[UserInPath, Path(description="The user's id, as it was sent; `/` in it as `%2F`")]


def create_user_routes(stats: Stats, threads: ThreadPools, secret: str) -> APIRouter:
    """The routes that read; `secret` pseudonymises user ids and is empty where they are not."""
    router = APIRouter(tags=["users"])
    table_or_error = TABLE | document_errors(422)

    def read_counts(user_id: str, query: UserQuery) -> dict[str, dict[date, int]]:
        first, last = query.range() or (None, None)
        forms = (user_id,) if query.pseudonym else list_forms(secret, user_id)
        return stats.counts_of_user(forms, first, last)

    @router.get("/users/{user_id}", response_model=UserAnswer, responses=table_or_error)
    async def user(
        request: Request, user_id: User, query: Annotated[UserQuery, Query()]
    ) -> Response:
        """What a user did, in all."""

        def read() -> Response:
            counts = read_counts(user_id, query)
            every = [day for days in counts.values() for day in days]
            of_all = sum(sum(days.values()) for days in counts.values())
            counts, more = _keep_largest(counts)
            totals = {event_type: sum(days.values()) for event_type, days in counts.items()}
            found = {
                "user_id": user_id,
                "count": of_all,
                "first_day": min(every, default=None),
                "last_day": max(every, default=None),
                "event_types": totals,
            } | more
            table = CsvTable("user", ("event_type", "count"), list(totals.items()))
            return respond(request, found, table)

        return await threads.run_scan(request.state.key.id, read)

    @router.get(
        "/users/{user_id}/counts", response_model=UserCountsAnswer, responses=table_or_error
    )
    async def user_counts(
        request: Request, user_id: User, query: Annotated[UserQuery, Query()]
    ) -> Response:
        """What a user did, by event type and day (UTC)."""

        def read() -> Response:
            counts, more = _keep_largest(read_counts(user_id, query))
            _check_size(counts)
            rows = [
                (event_type, day, n)
                for event_type, days in counts.items()
                for day, n in days.items()
            ]
            found = {"user_id": user_id, "counts": counts} | more
            table = CsvTable("user-counts", ("event_type", "date", "count"), rows)
            return respond(request, found, table)

        return await threads.run_scan(request.state.key.id, read)

    return router


def _keep_largest(
    counts: dict[str, dict[date, int]],
) -> tuple[dict[str, dict[date, int]], dict[str, int]]:
    """The largest event types, and what the answer has besides when some are left out."""
    kept, more = keep_largest(counts)
    return kept, {"more_types": more} if more else {}


def _check_size(counts: dict[str, dict[date, int]]) -> None:
    """Raise `InvalidParameter` where an answer would have more rows than one may."""
    rows = sum(map(len, counts.values()))
    if rows > MOST_ROWS:
        raise InvalidParameter(
            "from",
            f"the user has counts of {rows} days and event types in this range; at most "
            f"{MOST_ROWS} fit an answer: ask for fewer days, by from=… and to=…",
        )


def create_erase_route(threads: ThreadPools, services: Services) -> APIRouter:
    """The route that erases a user; needs a token with that permission."""
    router = APIRouter(tags=["users"])

    @router.delete(
        "/users/{user_id}",
        response_model=ForgottenAnswer,
        responses=document_errors(403, 422),
        dependencies=[Depends(require_erase_permission)],
    )
    async def forget(
        request: Request, user_id: User, query: Annotated[EraseQuery, Query()]
    ) -> Response:
        """Forget a user: counters, stored counts, archived events, dead letters; totals stay.

        Needs a token that was made with `--allow-forget`. May be repeated.
        """
        erase = partial(
            services.erase_user,
            user_id,
            f"token {request.state.key.id}",
            is_pseudonym=query.pseudonym,
        )
        try:
            erasure = await threads.run_job(request.state.key.id, erase)
        except InvalidEvent as error:
            raise InvalidParameter("user_id", error.reason) from error
        found = {
            "user_id": user_id,
            "forgotten_at": erasure.erased_at,
            "counters": erasure.counters,
            "live_counters": erasure.live_counters,
            "stored_counters": erasure.stored_counters,
            "events": erasure.events,
            "dead_letters": erasure.dead_letters,
        }
        return json_response(found, headers=NO_STORE)

    return router
