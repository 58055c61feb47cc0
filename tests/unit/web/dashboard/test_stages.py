"""The stages of the pipeline for people."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from pipeline.upkeep.condition.history import Stretches
from pipeline.web.dashboard.pipeline.stages import make_table, show_stage
from pipeline.web.pipeline_status import Stage


def stage(name: str = "counted", **changes: object) -> Stage:
    values = {
        "unit": "events",
        "number": 12_345,
        "rate_per_s": 4.25,
        "values": [1.0, None, 3.0, None],
        "is_total": True,
    }
    return Stage(name=name, **(values | changes))  # type: ignore[arg-type]


def test_a_total_shows_what_passed() -> None:
    shown = show_stage(stage(), "hour")
    assert (shown.number, shown.exact) == ("12.3k", "12,345 events")
    assert (shown.rate, shown.of_late) == ("4.2 a second", "4 in the last hour.")
    assert shown.values == [1, 0, 3]  # up to the last that is known


def test_what_waits_shows_the_most_and_how_it_changes() -> None:
    shown = show_stage(stage("queued", unit="messages", number=1, is_total=False), "day")
    assert (shown.exact, shown.rate) == ("1 message", "+4.2 a second")
    assert shown.of_late == "At most 3 in the last day."


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (None, "rate not known"),
        (0.0, "no change"),
        (-12.4, "\u221212 a second"),
        (-0.05, "\u22123 a minute"),
        (0.001, "+<0.1 a minute"),
        (12_345.0, "+12.3k a second"),
    ],
)
def test_rates_have_a_unit_that_suits_them(rate: float | None, said: str) -> None:
    assert show_stage(stage("queued", rate_per_s=rate, is_total=False), "hour").rate == said


def test_what_is_not_known_is_said_so() -> None:
    unknown = stage("stored", number=None, rate_per_s=None, values=[None] * 4)
    shown = show_stage(unknown, "hour")
    assert (shown.number, shown.exact, shown.values) == ("\u2013", "\u2013", [])
    assert shown.of_late == "The last hour is not known."


def test_the_table_has_a_dozen_rows_with_sums_and_maxima() -> None:
    passed = stage("counted", values=[1.0] * 60)
    waited = stage("queued", values=[*range(59), None], is_total=False)
    table = make_table([passed, waited], Stretches(0.0, 60.0, 60), ZoneInfo("Europe/Berlin"))
    assert table.columns == ["From", "Counted", "Queued"]
    assert len(table.rows) == 12
    assert table.rows[0] == ["01:00", "5", "4"]
    assert table.rows[-1] == ["01:55", "5", "58"]
