"""Retention: of the users who did one thing in a period, how many did another in those after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, cast

from starlette.routing import Route

from pipeline.days import count_days
from pipeline.errors import InvalidQuestion, TooManyPeriods
from pipeline.reading.catalogue import list_archived_types
from pipeline.reading.journeys.retention import RetentionQuestion
from pipeline.reading.journeys.steps import read_plain_types
from pipeline.reading.people.users import Period
from pipeline.web.dashboard.dashboard import Dashboard
from pipeline.web.dashboard.formats import (
    NOTHING,
    format_day,
    format_number,
    format_share,
    isolate,
)
from pipeline.web.dashboard.journeys.answers import POLL_S, Answer, find_answer
from pipeline.web.dashboard.journeys.commands import write_retention_command
from pipeline.web.dashboard.journeys.forms import choose, read_step_field
from pipeline.web.dashboard.page import Asked, Page, Sources

PATH = "/dashboard/retention"
PERIODS = {"day": "Day", "week": "Week", "month": "Month"}
UNITS = {"share": "Percent", "users": "Users"}
MOST_SHOWN = 60
"""Periods of a triangle that a page shows."""
SHADES = "abcdefghi"
"""Classes of cells, from few who came back to all of them; without any, none did."""
_PROPOSED = 100


@dataclass(frozen=True)
class Cell:
    """How many of a cohort came back in a period."""

    text: str
    shade: str
    """One of `SHADES`; empty: none came back."""
    is_unfinished: bool
    """Whether the period goes on."""


@dataclass(frozen=True)
class Row:
    """A cohort: who did the first thing in a period."""

    name: str
    users: int
    cells: Sequence[Cell]


Cohorts = Sequence[tuple[date, int, Sequence[int]]]


def read_retention(sources: Sources, asked: Asked) -> Mapping[str, Any]:
    """The form as the URL fills it, and the triangle where both events are given."""
    query, days = asked.query, asked.state.days(asked.now)
    start = read_step_field(query, "start", "start_where")
    back = read_step_field(query, "return", "return_where")
    every = choose(query, "every", PERIODS, _suit(count_days(*days)))
    unit = choose(query, "unit", UNITS, "share")
    values: dict[str, Any] = {
        "days": days,
        "start": start,
        "back": back,
        "every": every,
        "periods": PERIODS,
        "unit": unit,
        "units": UNITS,
        "poll_s": POLL_S,
        "wrong": "",
        "status": 200,
        "answer": None,
    }
    if not asked.card:
        values["types"] = list_archived_types(sources.services.engine, _PROPOSED)
    if start.event_type:
        try:
            question = RetentionQuestion(
                start.text, (back if back.event_type else start).text, every, *days
            )
            _check_periods(question)
            answer, of = _find(sources, asked, question)
        except (InvalidQuestion, TooManyPeriods) as error:
            return values | {"wrong": f"{error}", "status": 422}
        values |= {"answer": answer, "of": of if answer.found else ""}
        values["command"] = write_retention_command(question)
        if answer.found is not None:
            values |= _describe(answer.found["cohorts"], question, unit, asked.now.date())
    return values


def _suit(days: int) -> str:
    """The period that suits a range."""
    return "day" if days <= 14 else "week" if days <= 120 else "month"


def _check_periods(question: RetentionQuestion) -> None:
    if (n := len(question.list_periods())) > MOST_SHOWN:
        raise InvalidQuestion(
            "every",
            f"{n} periods of a {question.by} do not fit a page, at most {MOST_SHOWN} do: choose "
            "fewer days, or a longer period",
        )


def _find(sources: Sources, asked: Asked, question: RetentionQuestion) -> tuple[Answer, str]:
    """The answer, and what it is as of: without conditions the last flush, else the last archive
    run."""
    plain = read_plain_types(question.start, question.return_)
    if plain is None:
        return find_answer(sources, asked, question), "archive run"
    days = question.first, question.last
    found = sources.stats.retention(*plain, cast("Period", question.by), *days)
    cohorts = [
        {"start": one.start.isoformat(), "users": one.users, "returned": list(one.returned)}
        for one in found.cohorts
    ]
    return Answer({"cohorts": cohorts, "as_of": found.as_of}), "flush"


def _describe(
    found: Sequence[Mapping[str, Any]], question: RetentionQuestion, unit: str, today: date
) -> dict[str, Any]:
    """What the template shows of the cohorts."""
    cohorts: Cohorts = [
        (date.fromisoformat(one["start"]), one["users"], one["returned"]) for one in found
    ]
    goes_on = question.last >= today
    in_all = len(cohorts)
    while len(cohorts) > 1 and not cohorts[0][1]:
        cohorts = cohorts[1:]
    sums = _add_up(cohorts)
    shares = [n / users if users else None for n, users in sums]
    return {
        "rows": [
            Row(
                _name(start, question.by, today),
                users,
                [
                    _make_cell(n, users, unit, goes_on and at == len(returned) - 1)
                    for at, n in enumerate(returned)
                ],
            )
            for start, users, returned in cohorts
        ],
        "all": [_make_cell(n, users, unit, False) for n, users in sums],
        "users": sum(users for _, users, _ in cohorts),
        "left_out": in_all - len(cohorts),
        "is_unfinished": goes_on,
        "sentence": _say(question, shares, goes_on),
    }


def _make_cell(n: int, users: int, unit: str, is_unfinished: bool) -> Cell:
    if not users:
        return Cell(NOTHING, "", is_unfinished)
    share = n / users
    return Cell(
        format_share(share) if unit == "share" else format_number(n), _shade(share), is_unfinished
    )


def _shade(share: float) -> str:
    """The darkest is for all; anything above none has the lightest at least."""
    return SHADES[min(int(share * len(SHADES)), len(SHADES) - 1)] if share > 0 else ""


def _add_up(cohorts: Cohorts) -> list[tuple[int, int]]:
    """By how many periods later: how many came back of all cohorts that reach so far, and how many
    users these have."""
    reaching = [cohorts[: len(cohorts) - later] for later in range(len(cohorts))]
    return [
        (sum(returned[later] for _, _, returned in some), sum(users for _, users, _ in some))
        for later, some in enumerate(reaching)
    ]


def _name(start: date, by: str, today: date) -> str:
    if by == "month":
        return f"{start:%b} {start.year}"
    text = format_day(start, today)
    return f"{start:%a} {text}" if by == "day" else text


def _say(question: RetentionQuestion, shares: Sequence[float | None], goes_on: bool) -> str:
    start, return_ = isolate(question.start), isolate(question.return_)
    if not any(share is not None for share in shares):
        return f"No user did {start} in these days."
    if len(shares) < 2 or shares[1] is None:
        return f"Users who did {start}, and how many did {return_} again later."
    said = (
        f"Of the users who did {start}, {format_share(shares[1])} did {return_} "
        f"in the next {question.by}, on average"
    )
    return said + (f"; the last {question.by} has not ended." if goes_on else ".")


RETENTION = Page(
    path=PATH,
    title="Retention",
    template="journeys/retention.html",
    read=read_retention,
    parameters=("start", "start_where", "return", "return_where", "every", "unit", "report"),
    is_scan=True,
)


def create_retention_routes(dashboard: Dashboard) -> Sequence[Route]:
    """The page."""
    return [dashboard.create_page(RETENTION)]
