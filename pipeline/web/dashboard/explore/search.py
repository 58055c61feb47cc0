"""Which events the page is asked for, and the command that exports them."""

from __future__ import annotations

import shlex
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from pipeline.contract import MAX_USER_ID_CHARACTERS
from pipeline.errors import InvalidCondition
from pipeline.event_log.queries import EventFilter
from pipeline.reading.conditions.events import filter_properties
from pipeline.web.dashboard.page import Asked, Sources
from pipeline.web.errors import InvalidParameter

LONGEST_CONDITION = 4_000
PARAMETERS = ("user", "where", "cursor")


def make_filter(sources: Sources, asked: Asked) -> EventFilter:
    """The events that the URL names. Raises `InvalidParameter`."""
    user = asked.read_own("user", MAX_USER_ID_CHARACTERS)
    where = asked.read_own("where", LONGEST_CONDITION)
    first, end = bound_range(asked.state.days(asked.now), asked.state.tz)
    forms = sources.services.list_user_forms(user)[1:] if user else ()
    try:
        condition = filter_properties(where) if where else None
    except InvalidCondition as error:
        raise InvalidParameter("where", str(error)) from error
    return EventFilter(asked.state.event_type or None, user or None, first, end, forms, condition)


def bound_range(days: tuple[date, date], tz: ZoneInfo) -> tuple[datetime, datetime]:
    """The moment (UTC) that the first day of a zone begins at, and that at which the last ends."""
    first, after = days[0], days[1] + timedelta(days=1)
    begin, end = (datetime.combine(day, time(), tz).astimezone(UTC) for day in (first, after))
    return begin, end


def write_command(asked: Asked) -> str:
    """The command that exports all events of the page, for a shell."""
    state = asked.state
    first, last = state.days(asked.now)
    begin, end = f"{first}", f"{last}"
    if state.zone != "UTC":
        moments = bound_range((first, last), state.tz)
        begin, end = (f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in moments)
    parts = ["analytics", "export", "events.ndjson.gz"]
    named = {
        "--type": state.event_type,
        "--user": asked.query.get("user", "").strip(),
        "--from": begin,
        "--to": end,
        "--where": asked.query.get("where", "").strip(),
    }
    for option, value in named.items():
        if value:
            # With `=`, so that a value that begins with a hyphen is no option.
            parts.append(f"{option}={value}" if value.startswith("-") else option)
            parts += [] if value.startswith("-") else [value]
    return shlex.join(parts)
