"""The parts of the page that change, as HTML: in the page, and in the stream that replaces them."""

from __future__ import annotations

from datetime import datetime

from markupsafe import Markup

from pipeline.web.dashboard.charts.bars import BarChart
from pipeline.web.dashboard.charts.chart import Chart
from pipeline.web.dashboard.event_rows import list_event_rows
from pipeline.web.dashboard.formats import format_number
from pipeline.web.dashboard.live.numbers import LiveNumbers
from pipeline.web.dashboard.overview.cards import rank
from pipeline.web.dashboard.overview.tiles import Tile
from pipeline.web.dashboard.paths import LIVE
from pipeline.web.dashboard.shell.templates import render_block
from pipeline.web.dashboard.state import PageState

PARTS = ("numbers", "minutes", "quarters", "types", "events")
_TEMPLATE = "live/parts.html"
_TYPES = 10


def draw_parts(numbers: LiveNumbers, state: PageState) -> dict[str, Markup]:
    """Each part by its name, which is its id in the page; times are of the state's zone."""
    begins = [format_clock(at, state) for at, _ in numbers.quarters]
    bars = [(begin, float(n)) for begin, (_, n) in zip(begins, numbers.quarters, strict=True)]
    types = list(numbers.types.items())
    urls = {name: link_type(state, name) for name, _ in types[:_TYPES]}
    values = {
        "state": state,
        "now": numbers.at,
        "tiles": _list_tiles(numbers, begins),
        "chart": BarChart("quarters-chart", "Events by quarter hour", bars, "From").draw(),
        "minutes": _draw_minutes(numbers, state),
        "types": rank(types[:_TYPES], sum(numbers.types.values()), urls, state.event_type),
        "more_types": max(0, len(types) - _TYPES),
        "rows": list_event_rows(numbers.events, state, numbers.at),
    }
    return {name: Markup(render_block(_TEMPLATE, name, values)) for name in PARTS}


def link_type(state: PageState, name: str) -> str:
    """The page filtered by a type, or without the filter where it is that one."""
    return state.url(LIVE, event_type="" if name == state.event_type else name)


def _draw_minutes(numbers: LiveNumbers, state: PageState) -> Chart | None:
    """None where nothing is known of any minute."""
    if all(n is None for _, n in numbers.minutes):
        return None
    bars = [(f"{at.astimezone(state.tz):%H:%M}", n or 0.0) for at, n in numbers.minutes]
    return BarChart("minutes-chart", "Events counted by minute", bars, "From").draw()


def format_clock(at: str, state: PageState) -> str:
    """The time of a quarter hour, as a series names it, in the zone: `12:15`."""
    return f"{datetime.fromisoformat(at).astimezone(state.tz):%H:%M}"


def _list_tiles(numbers: LiveNumbers, begins: list[str]) -> list[Tile]:
    since = begins[-3:][0] if begins else ""
    per_s = None if numbers.per_s is None else round(numbers.per_s, 1)
    waiting = numbers.waiting + numbers.in_flight
    of_all = ", of all types" if numbers.event_type else ""
    return [
        Tile("Events a second", per_s, None, note="counted, of the last 10 s"),
        Tile(
            f"Since {since}" if since else "Lately",
            numbers.lately,
            None,
            note="this quarter hour and the two before",
        ),
        Tile(
            "Messages waiting",
            waiting,
            None,
            note=f"{format_number(numbers.waiting)} in the queue, "
            f"{format_number(numbers.in_flight)} being worked on{of_all}",
        ),
        Tile(
            "Events to archive",
            numbers.unarchived,
            None,
            note=f"counted, in the event log{of_all}",
        ),
    ]
