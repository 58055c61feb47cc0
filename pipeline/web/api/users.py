"""Routes of the stats API about a user: what somebody did, and to forget them."""

from __future__ import annotations

import logging
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from pipeline.event.pseudonyms import pseudonym
from pipeline.reading.stats import Stats
from pipeline.services import Services
from pipeline.web.answers import json_response
from pipeline.web.api.models import TABLE, ForgottenAnswer, UserAnswer, UserCountsAnswer, documented
from pipeline.web.api.queries import ForgetQuery, UserInPath, UserQuery
from pipeline.web.api.reads import Reads
from pipeline.web.api.tables import Table, answer
from pipeline.web.credentials import may_forget

logger = logging.getLogger(__name__)

User = Annotated[UserInPath, Path(description="The user's id, as it was sent; `/` in it as `%2F`")]


def user_routes(stats: Stats, reads: Reads, services: Services, secret: str) -> APIRouter:
    """The routes; `secret` is what user ids are made pseudonyms with, where they are."""
    router = APIRouter(tags=["users"])
    table_or_error = TABLE | documented(422)

    async def counts_of(user_id: str, query: UserQuery) -> dict[str, dict[date, int]]:
        first, last = query.range() or (None, None)
        kept = user_id if query.pseudonym else pseudonym(secret, user_id)
        return await reads.slow(stats.user_counts, kept, first, last)

    @router.get("/users/{user_id}", response_model=UserAnswer, responses=table_or_error)
    async def user(
        request: Request, user_id: User, query: Annotated[UserQuery, Query()]
    ) -> Response:
        """What a user did, in all."""
        counts = await counts_of(user_id, query)
        totals = {event_type: sum(days.values()) for event_type, days in counts.items()}
        every = [day for days in counts.values() for day in days]
        found = {
            "user_id": user_id,
            "count": sum(totals.values()),
            "first_day": min(every, default=None),
            "last_day": max(every, default=None),
            "event_types": totals,
        }
        table = Table("user", ("event_type", "count"), list(totals.items()))
        return answer(request, found, table)

    @router.get(
        "/users/{user_id}/counts", response_model=UserCountsAnswer, responses=table_or_error
    )
    async def user_counts(
        request: Request, user_id: User, query: Annotated[UserQuery, Query()]
    ) -> Response:
        """What a user did, by event type and day (UTC)."""
        counts = await counts_of(user_id, query)
        rows = [
            (event_type, day, n) for event_type, days in counts.items() for day, n in days.items()
        ]
        found = {"user_id": user_id, "counts": counts}
        table = Table("user-counts", ("event_type", "date", "count"), rows)
        return answer(request, found, table)

    @router.delete(
        "/users/{user_id}",
        response_model=ForgottenAnswer,
        responses=documented(403, 422),
        dependencies=[Depends(may_forget)],
    )
    async def forget(
        request: Request, user_id: User, query: Annotated[ForgetQuery, Query()]
    ) -> Response:
        """Forget a user: counters, stored counts, archived events, dead letters; totals stay.

        Needs a token that was made with `--allow-forget`. May be repeated.
        """
        kept = user_id if query.pseudonym else pseudonym(secret, user_id)
        logger.info("token %s asks to forget a user", request.state.key.id)
        erasure = await reads.work(services.erase_user, kept)
        found = {
            "user_id": user_id,
            "forgotten_at": erasure.erased_at,
            "counters": erasure.counters,
            "events": erasure.events,
            "dead_letters": erasure.dead_letters,
        }
        return json_response(found, headers={"Cache-Control": "no-store"})

    return router
