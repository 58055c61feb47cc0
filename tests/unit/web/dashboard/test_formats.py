from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from pipeline.web.dashboard import formats


@pytest.mark.parametrize(
    ("number", "exact", "short"),
    [
        (0, "0", "0"),
        (9_999, "9,999", "9,999"),
        (12_345, "12,345", "12.3k"),
        (99_960, "99,960", "100k"),
        (999_949, "999,949", "1M"),
        (1_234_567, "1,234,567", "1.23M"),
        (-12_345, "−12,345", "−12.3k"),
        (Decimal("1234.50"), "1,234.5", "1,234.5"),
        (None, "–", "–"),
    ],
)
def test_numbers(number: int | Decimal | None, exact: str, short: str) -> None:
    assert formats.format_number(number) == exact
    assert formats.format_short(number) == short


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.34, "340 ms"),
        (4.0, "4 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (7_500, "2 h 5 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert formats.format_duration(seconds) == text


def test_changes_have_an_arrow_and_words() -> None:
    change = formats.compare(1_123, 1_000)
    assert change is not None
    assert (change.text, change.arrow, change.words) == ("12.3%", "↑", "up 12.3% from 1,000")
    assert formats.compare(5, 0) == formats.Change("new", "up", "up from 0")
    assert formats.compare(5, 5) == formats.Change("no change", "same", "no change from 5")
    assert formats.compare(5, None) is None


def test_times_and_ranges() -> None:
    now = datetime(2025, 3, 14, 12, tzinfo=UTC)
    berlin = ZoneInfo("Europe/Berlin")
    assert formats.format_time(now, berlin, now) == "13:00:00"
    assert formats.format_time(now.replace(year=2024), berlin, now) == "14 Mar 13:00 2024"
    assert formats.format_days(date(2025, 3, 1), date(2025, 3, 14)) == "1–14 Mar 2025"
    assert formats.format_days(date(2024, 12, 30), date(2025, 1, 2)) == "30 Dec 2024 – 2 Jan 2025"
    assert formats.name_point("2025-03-09T23:00:00+00:00", "hour", berlin) == "10 Mar, 00:00"
    assert formats.name_point("2025-03-10", "week", berlin) == "Week of 10 Mar 2025"


def test_a_name_leaves_the_direction_of_its_sentence_alone() -> None:
    assert formats.isolate("page_view") == "page_view"
    assert formats.isolate("\u202e12\u2069 \u0645") == "\u206812 \u0645\u2069"
