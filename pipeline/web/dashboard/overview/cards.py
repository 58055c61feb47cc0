"""The cards below the chart: the largest types, values of a property, and users."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.reading.stats import Ranking
from pipeline.web.dashboard.overview.reading import Events
from pipeline.web.dashboard.page import Asked, Sources
from pipeline.web.dashboard.paths import HOME, USER
from pipeline.web.dashboard.state import PageState

SHOWN = 10


@dataclass(frozen=True)
class Row:
    """One of a ranking."""

    name: str
    count: int
    share: float
    """Of the largest, for the length of its bar."""
    part: float | None
    """Of all, as people read it; None where that is not known."""
    url: str = ""
    is_current: bool = False


@dataclass(frozen=True)
class Card:
    """A ranking: its first rows, how many more there are, and as of which flush (None: exact)."""

    rows: Sequence[Row]
    more: int = 0
    as_of: datetime | None = None
    of: str = ""
    choices: Sequence[str] = ()


def rank(
    counts: Iterable[tuple[str, int]], total: int | None, urls: dict[str, str], current: str = ""
) -> list[Row]:
    """Rows of counts that are in order."""
    counts = list(counts)
    largest = max((n for _, n in counts), default=0) or 1
    return [
        Row(name, n, n / largest, n / total if total else None, urls.get(name, ""), name == current)
        for name, n in counts
    ]


def link_type(state: PageState, name: str) -> str:
    """The overview filtered by a type, or without the filter where it is that one."""
    wanted = "" if name == state.event_type else name
    return state.url(HOME, event_type=wanted, of_property="", value="", search="", sort="count")


def link_value(state: PageState, value: str) -> str:
    """The same of a value of the state's type and property."""
    wanted = "" if value == state.value else value
    return state.url(HOME, value=wanted, search="", sort="count")


def list_types(asked: Asked, events: Events) -> Card:
    """The event types of the range; a click filters by one, or takes the filter away."""
    state = asked.state
    shown = list(events.types.items())[:SHOWN]
    urls = {name: link_type(state, name) for name, _ in shown}
    rows = rank(shown, sum(events.types.values()), urls, state.event_type)
    return Card(rows, max(0, len(events.types) - SHOWN))


def list_values(sources: Sources, asked: Asked, event_type: str) -> Card:
    """The values of a counted property of a type, of UTC days and as of the last flush; a click
    filters by one."""
    state = asked.state
    choices = sorted(sources.services.counters.options.count_by.get(event_type, ()))
    name = state.of_property or next(iter(choices), "")
    if not name or not event_type:
        return Card([])
    found = sources.stats.top(event_type, name, *state.days(asked.now), limit=SHOWN + 1)
    of_type = state.change(event_type=event_type, of_property=name)
    urls = {value: link_value(of_type, value) for value, _ in found.top}
    rows = rank(found.top[:SHOWN], None, urls, state.value)
    return Card(rows, _count_more(found), found.as_of, name, choices)


def list_top_users(sources: Sources, asked: Asked, event_type: str) -> Card:
    """The users with most events of a type, of UTC days and as of the last flush; a click leads to
    one."""
    if not event_type:
        return Card([])
    days = asked.state.days(asked.now)
    found = sources.stats.top(event_type, "user", *days, limit=SHOWN + 1)
    plain = asked.state.change(event_type="", of_property="", value="")
    urls = {user: plain.url(USER, {"user": user}) for user, _ in found.top}
    return Card(rank(found.top[:SHOWN], None, urls), _count_more(found), found.as_of)


def _count_more(found: Ranking) -> int:
    return max(0, len(found.top) - SHOWN)
