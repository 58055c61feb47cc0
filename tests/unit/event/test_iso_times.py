"""ISO 8601 is read on Python 3.10, whose own reader knows little of it, as on later ones."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.event.iso_times import read_iso_by_pattern

_DAYS = r"(2016-(02|07|13)-(2[89]|30)|2016(02|07)(29|30)|2020-?W(01|53|54)(-?[0-8])?)"
_CLOCKS = r"[T ](10|23|24|25)(:?(20|59|60)(:?(30|60)([.,][0-9]{1,9})?)?)?"
_ZONES = r"(|Z|[+-](00|05|24)(:?(00|30)(:?(00|15))?)?)"


def read(reader: object, text: str) -> datetime | None:
    try:
        return reader(text)  # type: ignore[operator]
    except ValueError:
        return None


@given(st.from_regex(re.compile(f"{_DAYS}({_CLOCKS}{_ZONES})?", re.ASCII), fullmatch=True))
@example("20091110T230005Z")
@example("2009-11-10T23:00:05.000000000+00:00")
@example("2009-11-10T23:00:05,5-0730")
@example("20091110")
@example("2009-W46-2T23Z")
@example("2009-11-10T2300Z")
def test_a_time_is_read_as_by_later_pythons(text: str) -> None:
    expected, found = read(datetime.fromisoformat, text), read(read_iso_by_pattern, text)
    assert found == expected
    assert (found and found.utcoffset()) == (expected and expected.utcoffset())


@pytest.mark.parametrize(
    "text", ["", "yesterday", "1257894005", "2009-11", "2009-11-10T", "٢٠٠٩1110"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Invalid isoformat"):
        read_iso_by_pattern(text)
