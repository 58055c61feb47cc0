"""Forms about journeys, shades of cohorts, and marks of annotations."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pipeline.reading.journeys.funnels import FunnelQuestion
from pipeline.reading.journeys.retention import RetentionQuestion
from pipeline.reading.journeys.steps import Step, parse_step
from pipeline.sharing.annotations import Annotation
from pipeline.web.dashboard.journeys.commands import (
    write_funnel_command,
    write_retention_command,
)
from pipeline.web.dashboard.journeys.forms import StepField, choose, read_step_field
from pipeline.web.dashboard.journeys.retention import _describe
from pipeline.web.dashboard.sharing.marks import Marks
from pipeline.web.errors import InvalidParameter


@pytest.mark.parametrize("event_type", ["view", "a b", 'x["y]', '"quoted"', "back\\slash[1]"])
def test_the_text_of_a_step_is_read_as_its_type(event_type: str) -> None:
    assert parse_step(StepField(event_type).text) == Step(event_type)
    assert parse_step(StepField(event_type, ' plan = "pro" ').text).event_type == event_type


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"where1": "a = 1"}, "where1"),
        ({"step1": "x" * 201}, "step1"),
        ({"step1": "x", "where1": "y" * 4_001}, "where1"),
    ],
)
def test_a_wrong_step_names_its_parameter(query: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        read_step_field(query, "step1", "where1")
    assert refused.value.field == field


def test_the_commands_ask_the_same_in_a_shell() -> None:
    days = date(2026, 3, 1), date(2026, 3, 2)
    funnel = FunnelQuestion(("a", 'b[plan="pro"]'), *days, "7d", any_order=True, by="-x")
    assert write_funnel_command(funnel) == (
        "analytics stats funnel --from 2026-03-01 --to 2026-03-02 --window 7d --any-order "
        "--by=-x a 'b[plan=\"pro\"]'"
    )
    retention = RetentionQuestion("-a", "b; rm c", "day", *days)
    assert write_retention_command(retention).endswith("--by day -- -a 'b; rm c'")


def test_a_choice_is_one_of_those_there_are() -> None:
    assert choose({}, "view", {"a": "", "b": ""}, "b") == "b"
    with pytest.raises(InvalidParameter, match="use a, b"):
        choose({"view": "c"}, "view", {"a": "", "b": ""}, "b")


def test_a_triangle_has_shares_shades_and_what_goes_on() -> None:
    days = date(2026, 3, 2), date(2026, 3, 29)
    question = RetentionQuestion("a", "b", "week", *days)
    found = [
        {"start": "2026-03-02", "users": 0, "returned": [0, 0, 0, 0]},
        {"start": "2026-03-09", "users": 10, "returned": [10, 5, 0]},
        {"start": "2026-03-16", "users": 30, "returned": [0, 15]},
        {"start": "2026-03-23", "users": 4, "returned": [1]},
    ]

    shown = _describe(found, question, "share", days[1])

    assert shown["left_out"] == 1
    assert [row.name for row in shown["rows"]] == ["9 Mar", "16 Mar", "23 Mar"]
    assert [(cell.text, cell.shade) for cell in shown["rows"][0].cells] == [
        ("100%", "i"),
        ("50%", "e"),
        ("0%", ""),
    ]
    assert [cell.is_unfinished for cell in shown["rows"][1].cells] == [False, True]
    assert [cell.text for cell in shown["all"]] == ["25%", "50%", "0%"]
    assert "50% did b in the next week" in shown["sentence"]
    counts = _describe(found, question, "users", days[1] + timedelta(days=1))
    assert [cell.text for cell in counts["rows"][1].cells] == ["0", "15"]
    assert [cell.text for cell in counts["all"]] == ["11", "20", "0"]
    assert not counts["is_unfinished"]


def test_marks_stand_at_the_point_that_they_fall_into() -> None:
    berlin = ZoneInfo("Europe/Berlin")

    def note(at: datetime, text: str) -> Annotation:
        return Annotation(1, at, text, "token", at)

    marks = Marks(
        [
            note(datetime(2026, 3, 2, 23, 30, tzinfo=UTC), "third"),
            note(datetime(2026, 3, 2, 9, tzinfo=UTC), "second"),
            note(datetime(2026, 3, 2, 8, tzinfo=UTC), "first"),
        ]
    )
    days = ["2026-03-01", "2026-03-02", "2026-03-03"]
    placed = marks.place(days, berlin)
    assert [(one.position, one.text) for one in placed] == [(1, "first; second"), (2, "third")]
    hours = [f"2026-03-02T{hour:02}:00:00+01:00" for hour in (9, 10, 11)]
    assert [one.position for one in marks.place(hours, berlin)] == [0, 1, 2]
