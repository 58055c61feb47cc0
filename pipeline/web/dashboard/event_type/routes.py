"""An event type: its chart, users, values, sums and latest events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.routing import Route

from pipeline.event_log.queries import EventFilter
from pipeline.reading.people.users import UserSeries
from pipeline.reading.raw.pages import read_archived
from pipeline.reading.series.periods import Granularity
from pipeline.web.dashboard.charts.chart import Chart
from pipeline.web.dashboard.charts.line import LineChart
from pipeline.web.dashboard.dashboard import Dashboard
from pipeline.web.dashboard.event_rows import list_event_rows
from pipeline.web.dashboard.event_type.properties import read_sums, read_values
from pipeline.web.dashboard.overview.cards import rank
from pipeline.web.dashboard.overview.reading import (
    Events,
    is_unfinished,
    read_events,
    read_users,
)
from pipeline.web.dashboard.overview.tiles import Tile
from pipeline.web.dashboard.page import Asked, Page, Sources
from pipeline.web.dashboard.paths import EVENT_TYPE, EXPLORE
from pipeline.web.dashboard.sharing.marks import Marks, read_marks

_LATEST = 10
_PROPOSED_TYPES = 200


def read_event_type(sources: Sources, asked: Asked) -> Mapping[str, Any]:
    """What the page shows of the type, or the types to choose from."""
    state, event_type = asked.state, asked.state.event_type
    values: dict[str, Any] = {
        "days": state.days(asked.now),
        "compared_days": state.compared_days(asked.now),
        "steps": state.list_steps(asked.now),
    }
    if not event_type:
        today = asked.now.date()
        found, more = sources.types.list_largest(today, _PROPOSED_TYPES)
        urls = {one.event_type: state.url(EVENT_TYPE, event_type=one.event_type) for one in found}
        counts = [(one.event_type, one.total) for one in found]
        return values | {"all_types": rank(counts, None, urls), "how_many": more}
    if asked.wants("main") or asked.wants("tiles"):
        events = read_events(sources, asked)
        marks = read_marks(sources, asked)
        values |= {"step": events.step, "marks": marks, "chart": _draw(asked, events, marks)}
        values["is_by_day_of_utc"] = events.is_by_day_of_utc
        if asked.wants("tiles"):
            values["tiles"] = _list_tiles(asked, events)
    if asked.wants("users"):
        values |= _read_users(sources, asked)
    if asked.wants("values"):
        values["values"] = read_values(sources, asked, event_type)
    if asked.wants("sums"):
        values["sums"] = read_sums(sources, asked, event_type)
    if asked.wants("events"):
        found_events = read_archived(sources.services.engine, EventFilter(event_type), _LATEST)
        values |= {
            "rows": list_event_rows(found_events.events, state, asked.now),
            "as_of": found_events.as_of,
            "explore_url": state.url(EXPLORE, of_property="", value=""),
        }
    return values


def _list_tiles(asked: Asked, events: Events) -> list[Tile]:
    name = asked.state.event_type
    of_all, of_all_before = sum(events.types.values()), sum(events.types_before.values())
    tiles = [
        Tile(
            "Events",
            events.now.count,
            events.count_before(asked.now),
            [n for _, n in events.list_points(asked.now) if n is not None],
            is_unfinished(asked, events.now.last),
            events.note(asked.now),
        )
    ]
    if of_all and not asked.state.value:
        share = 100 * events.types.get(name, 0) / of_all
        then = 100 * events.types_before.get(name, 0) / of_all_before if of_all_before else None
        tiles.append(Tile("% of all events", round(share, 2), then and round(then, 2)))
    return tiles


def _draw(asked: Asked, events: Events, marks: Marks) -> Chart:
    points = events.list_points(asked.now)
    return LineChart(
        "main-chart",
        "Events",
        events.step,
        asked.state.tz,
        points,
        events.before.points if events.before else None,
        is_unfinished(asked, events.now.last),
        marks.place([at for at, _ in points], asked.state.tz),
        asked.state.compared_title,
        asked.state.find_cut(asked.now, events.step),
    ).draw()


def _read_users(sources: Sources, asked: Asked) -> dict[str, Any]:
    users, before = read_users(sources, asked)
    then = before.total if before else None
    total = users.total
    return {
        "users": [
            Tile("Users", total.users, then.users if then else None),
            Tile("New", total.new, then.new if then else None),
            Tile("Returning", total.returning, then.returning if then else None),
        ],
        "users_as_of": total.as_of,
        "users_chart": _draw_users(asked, users, before),
    }


def _draw_users(asked: Asked, users: UserSeries, before: UserSeries | None) -> Chart:
    wanted = asked.state.step(asked.now)
    step: Granularity = wanted if wanted in ("week", "month") else "day"
    return LineChart(
        "users-chart",
        "Users",
        step,
        asked.state.tz,
        [(at.isoformat(), one.users) for at, one in users.points],
        [(at.isoformat(), one.users) for at, one in before.points] if before else None,
        is_unfinished(asked, asked.state.days(asked.now)[1]),
        before_title=asked.state.compared_title,
        cut=asked.state.find_cut(asked.now, step),
    ).draw()


PAGE = Page(
    path=EVENT_TYPE,
    title="Event type",
    template="event_type/event_type.html",
    read=read_event_type,
    is_in_navigation=False,
    is_scan=True,
)


def create_event_type_routes(dashboard: Dashboard) -> Sequence[Route]:
    """The page."""
    return [dashboard.create_page(PAGE)]
