"""Forgetting a user from their page: the id is typed once more, since nothing brings it back."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.access.access_key import AccessKey
from pipeline.errors import InvalidEvent
from pipeline.web.dashboard.formats import format_number
from pipeline.web.dashboard.page import Action, Sources
from pipeline.web.dashboard.paths import USER
from pipeline.web.errors import InvalidParameter

FORGET = f"{USER}/forget"


def forget_user(sources: Sources, viewer: AccessKey, form: Mapping[str, str]) -> str:
    """Erase the user of the form; says what was removed. May be repeated."""
    user_id, typed = form.get("user", ""), form.get("typed", "")
    if not user_id or typed != user_id:
        return "Nothing was removed: the id that was typed is not that of this user. Type it again."
    try:
        erasure = sources.services.erase_user(user_id, f"token {viewer.id}")
    except InvalidEvent as error:
        raise InvalidParameter("user", error.reason) from error
    if erasure.is_empty:
        return (
            "Nothing is stored for this user: no counters, no archived events, no dead letters. "
            "Events still on their way are dropped when they arrive."
        )
    return (
        f"Forgotten. Removed: {format_number(erasure.live_counters)} counters in Redis, "
        f"{format_number(erasure.stored_counters)} stored ones and "
        f"{format_number(erasure.dead_letters)} dead letters; "
        f"{format_number(erasure.events)} archived events name the user no longer. Totals stay."
    )


ACTION = Action(path=FORGET, right="may_forget", act=forget_user, back=USER)
