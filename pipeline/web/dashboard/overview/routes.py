"""The overview: tiles, the chart, and cards of types, values and users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from starlette.routing import Route

from pipeline.web.dashboard.charts.chart import Chart
from pipeline.web.dashboard.charts.line import LineChart
from pipeline.web.dashboard.dashboard import Dashboard
from pipeline.web.dashboard.formats import isolate
from pipeline.web.dashboard.overview.cards import list_top_users, list_types, list_values
from pipeline.web.dashboard.overview.details import DETAILS, DETAILS_CSV
from pipeline.web.dashboard.overview.reading import Events, is_unfinished, read_events
from pipeline.web.dashboard.overview.tiles import list_tiles
from pipeline.web.dashboard.page import Asked, Page, Sources
from pipeline.web.dashboard.paths import HOME
from pipeline.web.dashboard.sharing.marks import Marks, read_marks

_SHOWN_ELSEWHERE = timedelta(days=364)


def read_overview(sources: Sources, asked: Asked) -> Mapping[str, Any]:
    """What the page shows, or the part that is asked for."""
    events = read_events(sources, asked)
    shown_type = asked.state.event_type or next(iter(events.types), "")
    values: dict[str, Any] = {
        "days": asked.state.days(asked.now),
        "compared_days": asked.state.compared_days(asked.now),
        "steps": asked.state.list_steps(asked.now),
        "step": events.step,
        "is_by_day_of_utc": events.is_by_day_of_utc,
        "shown_type": shown_type,
        "origin": asked.origin,
    }
    # A part that is not asked for is not read.
    if asked.wants("tiles"):
        values["tiles"] = list_tiles(sources, asked, events)
    if asked.wants("main"):
        values["marks"] = read_marks(sources, asked)
        values["chart"] = _draw(asked, events, values["marks"])
    if asked.wants("types"):
        values["types"] = list_types(asked, events)
    if asked.wants("values"):
        values["values"] = list_values(sources, asked, shown_type)
    if asked.wants("users"):
        values["users"] = list_top_users(sources, asked, shown_type)
    if not asked.card:
        largest = [] if events.types else sources.types.list_largest(asked.now.date(), 1)[0]
        values["is_empty"] = not events.types and not largest
        values["elsewhere"] = largest[0].event_type if largest else ""
        if largest:
            last = largest[0].last_day
            values["elsewhere_days"] = max(largest[0].first_day, last - _SHOWN_ELSEWHERE), last
    return values


def _draw(asked: Asked, events: Events, marks: Marks) -> Chart:
    points = events.list_points(asked.now)
    state = asked.state
    title = f"Events of {isolate(state.event_type)}" if state.event_type else "Events"
    title += f" with this {state.of_property}" if state.value else ""
    return LineChart(
        "main-chart",
        title,
        events.step,
        asked.state.tz,
        points,
        events.before.points if events.before else None,
        is_unfinished(asked, events.now.last),
        marks.place([at for at, _ in points], asked.state.tz),
        state.compared_title,
        state.find_cut(asked.now, events.step),
    ).draw()


OVERVIEW = Page(
    path=HOME,
    title="Overview",
    template="overview/overview.html",
    read=read_overview,
    is_scan=True,
)


def create_overview_routes(dashboard: Dashboard) -> Sequence[Route]:
    """The page, and that of all rows of a card."""
    return [
        dashboard.create_page(OVERVIEW),
        dashboard.create_page(DETAILS),
        dashboard.create_download(DETAILS_CSV),
    ]
