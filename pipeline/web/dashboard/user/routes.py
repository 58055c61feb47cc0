"""A user, found by the id as it was sent or by its pseudonym."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.routing import Route

from pipeline.contract import MAX_USER_ID_CHARACTERS
from pipeline.event_log.queries import EventFilter
from pipeline.reading.raw.pages import read_archived
from pipeline.web.dashboard.dashboard import Dashboard
from pipeline.web.dashboard.event_rows import list_event_rows
from pipeline.web.dashboard.overview.cards import rank
from pipeline.web.dashboard.page import Asked, Page, Sources
from pipeline.web.dashboard.paths import EXPLORE, USER
from pipeline.web.dashboard.user.forgetting import ACTION, FORGET
from pipeline.web.dashboard.user.reading import add_up

_LATEST = 20
_TYPES = 20


def read_user(sources: Sources, asked: Asked) -> Mapping[str, Any]:
    """What the page shows of the user, or only the form that finds one."""
    user = asked.read_own("user", MAX_USER_ID_CHARACTERS)
    days = asked.state.days(asked.now)
    values: dict[str, Any] = {"user": user, "days": days, "forget_path": FORGET}
    if not user:
        return values
    forms = sources.services.list_user_forms(user)
    if asked.wants("days") or asked.wants("types"):
        counts = add_up(sources.stats.counts_of_user(forms, *days), *days)
        urls = {
            name: asked.state.url(EXPLORE, {"user": user}, event_type=name)
            for name, _ in counts.by_type
        }
        values |= {
            "counts": counts,
            "chart": counts.draw(),
            "types": rank(counts.by_type[:_TYPES], counts.count, urls),
            "more_types": max(0, len(counts.by_type) - _TYPES),
        }
    if asked.wants("events"):
        wanted = EventFilter(user_id=user, other_user_ids=forms[1:])
        found = read_archived(sources.services.engine, wanted, _LATEST)
        values |= {
            "rows": list_event_rows(found.events, asked.state, asked.now),
            "as_of": found.as_of,
            "explore_url": asked.state.url(EXPLORE, {"user": user}),
        }
    return values


PAGE = Page(
    path=USER,
    title="User",
    template="user/user.html",
    read=read_user,
    parameters=("user",),
    is_in_navigation=False,
    is_scan=True,
)


def create_user_routes(dashboard: Dashboard) -> Sequence[Route]:
    """The page, and the form that has the user forgotten."""
    return [dashboard.create_page(PAGE), dashboard.create_action(ACTION)]
