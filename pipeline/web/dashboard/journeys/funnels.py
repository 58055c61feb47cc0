"""Funnels: the form that builds one, and how many users go through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.routing import Route

from pipeline.errors import InvalidQuestion
from pipeline.reading.catalogue import list_archived_properties, list_archived_types
from pipeline.reading.journeys.funnels import FunnelQuestion
from pipeline.reading.journeys.steps import DEFAULT_WINDOW, FEWEST_STEPS, MOST_STEPS
from pipeline.web.dashboard.dashboard import Dashboard
from pipeline.web.dashboard.formats import format_duration, format_number, format_share, isolate
from pipeline.web.dashboard.journeys.answers import POLL_S, Answer, find_answer
from pipeline.web.dashboard.journeys.commands import write_funnel_command
from pipeline.web.dashboard.journeys.forms import StepField, choose, read_step_field
from pipeline.web.dashboard.page import Asked, Page, Sources

PATH = "/dashboard/funnels"
WINDOWS = {
    "30m": "30 minutes",
    "1h": "1 hour",
    "1d": "1 day",
    "7d": "7 days",
    "14d": "14 days",
    "30d": "30 days",
    "90d": "90 days",
}
ORDERS = {"in": "In this order", "any": "In any order"}
VIEWS = {"charts": "Side by side", "table": "Table"}
_PROPOSED = 100
_SHOWN_ROWS = 3
"""Of steps in an empty form."""


@dataclass(frozen=True)
class FunnelBar:
    """A step of a funnel that was answered."""

    step: str
    users: int
    lost: int
    conversion: float | None
    of_first: float | None
    median_s: float | None


def read_funnels(sources: Sources, asked: Asked) -> Mapping[str, Any]:
    """The form as the URL fills it, and the answer where there are steps enough."""
    fields = _read_fields(asked.query)
    given = [one for one in fields if one.event_type]
    window = asked.query.get("window", "").strip() or DEFAULT_WINDOW
    order = choose(asked.query, "order", ORDERS, "in")
    values: dict[str, Any] = {
        "days": asked.state.days(asked.now),
        "fields": [*given, *[StepField()] * (_count_rows(given) - len(given))],
        "window": window,
        "windows": WINDOWS if window in WINDOWS else {**WINDOWS, window: window},
        "order": order,
        "orders": ORDERS,
        "view": choose(asked.query, "view", VIEWS, "charts"),
        "views": VIEWS,
        "urls_without": _list_urls_without(asked, given),
        "poll_s": POLL_S,
        "wrong": "",
        "status": 200,
        "answer": None,
    }
    if not asked.card:
        engine = sources.services.engine
        first = given[0].event_type if given else ""
        values["types"] = list_archived_types(engine, _PROPOSED)
        values["properties"] = list_archived_properties(engine, first, _PROPOSED)
    if len(given) >= FEWEST_STEPS:
        try:
            question = _ask(asked, given, window, order)
        except InvalidQuestion as error:
            # The form is shown as it was filled in, and says what is wrong with it.
            return values | {"wrong": f"{error}", "status": 422}
        values |= _describe(find_answer(sources, asked, question))
        values["command"] = write_funnel_command(question)
    return values


def _read_fields(query: Mapping[str, str]) -> list[StepField]:
    numbers = range(1, MOST_STEPS + 1)
    return [read_step_field(query, f"step{n}", f"where{n}") for n in numbers]


def _count_rows(given: Sequence[StepField]) -> int:
    """Of the form: those that are filled in, and one to add a step."""
    return min(max(len(given) + 1, _SHOWN_ROWS), MOST_STEPS)


def _list_urls_without(asked: Asked, given: Sequence[StepField]) -> list[str]:
    """By step, the URL of the funnel without it."""

    def name(steps: Sequence[StepField]) -> dict[str, str]:
        texts = dict[str, str]()
        for n, step in enumerate(steps, 1):
            texts |= {f"step{n}": step.event_type, f"where{n}": step.where}
        return texts

    kept = {one: asked.query.get(one, "") for one in ("window", "order", "view")}
    return [
        asked.state.url(PATH, {**name([*given[:at], *given[at + 1 :]]), **kept})
        for at in range(len(given))
    ]


def _ask(asked: Asked, given: Sequence[StepField], window: str, order: str) -> FunnelQuestion:
    steps = tuple(step.text for step in given)
    by = asked.state.of_property or None
    return FunnelQuestion(steps, *asked.state.days(asked.now), window, order == "any", by)


def _describe(answer: Answer) -> dict[str, Any]:
    """What the template shows of an answer."""
    shown: dict[str, Any] = {"answer": answer, "bars": [], "by_value": None, "sentence": ""}
    if answer.found is not None:
        bars = _list_bars(answer.found["steps"])
        shown |= {"bars": bars, "sentence": _say(bars), "table": _tabulate(bars)}
        if "values" in answer.found:
            shown["by_value"] = [
                (one["value"], _list_bars(one["steps"])) for one in answer.found["values"]
            ]
    return shown


def _list_bars(steps: Sequence[Mapping[str, Any]]) -> list[FunnelBar]:
    names = FunnelBar.__dataclass_fields__
    return [FunnelBar(**{name: step[name] for name in names}) for step in steps]


def _say(bars: Sequence[FunnelBar]) -> str:
    first, last = bars[0], bars[-1]
    if not first.users:
        return "No user did the first step in these days."
    losses = max(bars[1:], key=lambda bar: bar.lost)
    said = (
        f"Of {format_number(first.users)} users who did {isolate(first.step)}, "
        f"{format_number(last.users)} ({format_share(last.of_first)}) came to {isolate(last.step)}"
    )
    if not losses.lost:
        return f"{said}; none was lost on the way."
    return f"{said}; most were lost before {isolate(losses.step)}: {format_number(losses.lost)}."


def _tabulate(bars: Sequence[FunnelBar]) -> list[list[str]]:
    return [
        [
            bar.step,
            format_number(bar.users),
            format_number(bar.lost),
            format_share(bar.conversion),
            format_share(bar.of_first),
            format_duration(bar.median_s),
        ]
        for bar in bars
    ]


FUNNELS = Page(
    path=PATH,
    title="Funnels",
    template="journeys/funnels.html",
    read=read_funnels,
    parameters=(
        *(f"{name}{n}" for n in range(1, MOST_STEPS + 1) for name in ("step", "where")),
        *("window", "order", "view", "report"),
    ),
    is_scan=True,
)


def create_funnel_routes(dashboard: Dashboard) -> Sequence[Route]:
    """The page."""
    return [dashboard.create_page(FUNNELS)]
