from datetime import date, timedelta
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from pipeline.web.dashboard.charts.bars import draw_histogram
from pipeline.web.dashboard.charts.line import Annotation, LineChart
from pipeline.web.dashboard.charts.scale import find_moment, list_ticks, list_time_ticks
from pipeline.web.dashboard.charts.sparkline import draw_sparkline

UTC = ZoneInfo("UTC")
DAYS = [f"{date(2025, 3, 1) + timedelta(n)}" for n in range(31)]


def draw(values: list[float | None], **changes: object) -> list[ElementTree.Element]:
    points = list(zip(DAYS, values, strict=False))
    chart = LineChart("c", "Events", "day", UTC, points, **changes).draw()  # type: ignore[arg-type]
    return [ElementTree.fromstring(drawing) for drawing in chart.drawings]


def test_every_drawing_is_an_image_with_a_title_and_a_sentence() -> None:
    for svg in draw([1.0, 5.0, 3.0]):
        assert svg.get("role") == "img"
        named = {one.get("id"): one.text for one in svg if one.get("id")}
        said = [named[name] for name in svg.get("aria-labelledby", "").split()]
        assert said[0] == "Events"
        assert "most were 5 (Sun 2 Mar 2025)" in str(said[1])


def test_nothing_is_drawn_by_a_style_attribute_and_all_text_is_escaped() -> None:
    mark = Annotation(1, "<script>alert('\"')</script>")
    chart = LineChart(
        "c", "<b>", "day", UTC, [(DAYS[0], 1.0), (DAYS[1], 2.0)], annotations=[mark]
    ).draw()
    for drawing in chart.drawings:
        assert "style" not in drawing
        assert "<script" not in drawing
        ElementTree.fromstring(drawing)


def test_what_has_not_ended_is_dashed_and_what_is_compared_with_too() -> None:
    before = [(day, 2.0) for day in DAYS[:3]]
    for svg in draw([1.0, 5.0, 3.0], before=before, is_unfinished=True):
        classes = [one.get("class") for one in svg.iter("path")]
        assert classes == ["area", "line before", "line", "line unfinished"]


def test_what_is_still_to_come_is_not_drawn_as_zero() -> None:
    for svg in draw([1.0, 5.0, None, None]):
        line = next(one for one in svg.iter("path") if one.get("class") == "line")
        assert str(line.get("d")).count("L") == 1


def test_the_table_has_the_same_numbers() -> None:
    chart = LineChart(
        "c", "Events", "day", UTC, [(DAYS[0], 1_234.0)], before=[("2025-02-01", 7.0)]
    ).draw()
    assert chart.table.rows == [["Sat 1 Mar 2025", "1,234", "Sat 1 Feb 2025", "7"]]


@given(st.floats(0.001, 1e15), st.integers(2, 6))
def test_ticks_are_few_and_reach_the_largest_value(largest: float, most: int) -> None:
    ticks = list_ticks(largest, most, whole=False)
    assert ticks[0] == 0
    assert ticks[-1] >= largest * 0.999999
    assert len(ticks) <= most + 2


def test_ticks_of_counts_are_whole() -> None:
    assert list_ticks(1) == [0, 1]
    assert list_ticks(3) == [0, 1, 2, 3]
    assert list_ticks(17_000) == [0, 5_000, 10_000, 15_000, 20_000]


def test_times_below_are_round_in_the_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    hours = [find_moment(f"2025-03-14T{hour:02}:00:00+00:00", berlin) for hour in range(24)]
    labels = [tick.label for tick in list_time_ticks(hours, 10)]
    assert labels == ["03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00", "00:00"]
    days = [find_moment(day, berlin) for day in DAYS]
    assert [tick.label for tick in list_time_ticks(days, 8)] == [
        "3 Mar",
        "10 Mar",
        "17 Mar",
        "24 Mar",
        "31 Mar",
    ]


def test_a_histogram_and_a_sparkline() -> None:
    chart = draw_histogram("h", "Sizes", [(0.0, 1.0, 5), (1.0, 2.0, 7)])
    assert "the highest is 1–2 with 7" in chart.sentence
    svg = ElementTree.fromstring(draw_sparkline([1, 2, 3], is_unfinished=True))
    assert svg.get("aria-hidden") == "true"
    assert draw_sparkline([1]) == ""


def test_parts_of_weeks_are_dashed_and_said_to_be_parts() -> None:
    chart = LineChart(
        "c",
        "Events",
        "week",
        UTC,
        [(DAYS[2], 3.0), (DAYS[9], 7.0), (DAYS[16], 1.0)],
        cut=(True, True),
        before=[(DAYS[0], 1.0)],
        before_title="Year before",
    ).draw()
    for drawing in chart.drawings:
        classes = [one.get("class") for one in ElementTree.fromstring(drawing).iter("path")]
        assert classes.count("line unfinished") == 2
    assert [row[0].endswith("(part)") for row in chart.table.rows] == [True, False, True]
    assert [label for _, label in chart.legend] == ["Events", "Year before", "Part of a week"]


def test_two_parts_are_one_dashed_line() -> None:
    for svg in draw([1.0, 5.0], cut=(True, True)):
        assert [one.get("class") for one in svg.iter("path")] == ["area", "line unfinished"]
