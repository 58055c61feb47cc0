"""Routes of the stats API about a user: what somebody did, and to forget them."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from pipeline.stats import Stats
from pipeline.web.models import TABLE, UserAnswer, UserCountsAnswer, documented
from pipeline.web.pseudonyms import pseudonym
from pipeline.web.queries import UserInPath, UserQuery
from pipeline.web.reads import Reads
from pipeline.web.tables import Table, answer

User = Annotated[UserInPath, Path(description="The user's id, as it was sent; `/` in it as `%2F`")]


def user_routes(stats: Stats, reads: Reads, secret: str) -> APIRouter:
    """The routes; `secret` is what user ids are made pseudonyms with, where they are."""
    router = APIRouter(tags=["users"], responses=TABLE | documented(422))

    async def counts_of(user_id: str, query: UserQuery) -> dict[str, dict[date, int]]:
        first, last = query.range() or (None, None)
        kept = user_id if query.pseudonym else pseudonym(secret, user_id)
        return await reads.slow(stats.user_counts, kept, first, last)

    @router.get("/users/{user_id}", response_model=UserAnswer)
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

    @router.get("/users/{user_id}/counts", response_model=UserCountsAnswer)
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

    return router
