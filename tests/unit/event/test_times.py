"""Times as programs of all kinds write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.event.times import read_time, read_unix_time

AT = datetime(2009, 11, 10, 23, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        # Go: String(), with a monotonic clock, with a zone without a name
        "2009-11-10 23:00:05 +0000 UTC",
        "2009-11-10 23:00:05 +0000 UTC m=+0.000012701",
        "2009-11-11 02:00:05 +0300 +03",
        "2009-11-10 16:00:05 -0700 MST",
        # Ruby, Swift, Python's str(), databases
        "2009-11-10 16:00:05 -0700",
        "2009-11-10 23:00:05 UTC",
        "2009-11-10 23:00:05+00",
        "2009/11/10 23:00:05 +0000",
        # ISO 8601 in all spellings
        "2009-11-10t23:00:05z",
        "2009-11-11T04:30:05+0530",
        "2009-11-10T23:00:05,0Z",
        "2009-11-10T23:00:05.0000000Z",
        "2009-11-10T23:00:05.000000000+00:00",
        "20091110T230005Z",
        " 2009-11-10T23:00:05Z\n",
        "2009-11-11T00:00:05+01:00[Europe/Paris]",
        # mail, HTTP, cookies, C, Java, JavaScript
        "Tue, 10 Nov 2009 23:00:05 GMT",
        "Tue, 10 Nov 2009 18:00:05 -0500 (EST)",
        "10 Nov 09 23:00:05 UT",
        "Tuesday, 10-Nov-09 23:00:05 GMT",
        "Tue Nov 10 23:00:05 UTC 2009",
        "Tue Nov 10 18:00:05 EST 2009",
        "Tue Nov 10 23:00:05 +0000 2009",
        "Tue Nov 10 2009 23:00:05 GMT+0000 (Coordinated Universal Time)",
        "Wed Nov 11 2009 04:30:05 GMT+0530 (India Standard Time)",
        "Nov 10, 2009 11:00:05 PM UTC",
        # Unix time
        "1257894005",
        "1257894005.0",
        "1257894005000",
        "1257894005000000",
        "1257894005000000000",
        "/Date(1257894005000)/",
    ],
)
def test_one_moment_is_read_however_it_is_written(text: str) -> None:
    assert read_time(text) == AT


@pytest.mark.parametrize("number", [1257894005, 1257894005.0, 1257894005_000, 1257894005 * 10**9])
def test_the_unit_of_unix_time_is_known_by_the_size_of_the_number(number: float) -> None:
    assert read_unix_time(number) == AT


def test_fractions_are_kept_to_the_microsecond() -> None:
    at = AT.replace(microsecond=123456)
    assert read_time("2009-11-10 23:00:05.123456789 +0000 UTC") == at
    assert read_time("2009-11-10T23:00:05,1234567z") == at
    assert read_unix_time(1257894005123456) == at


@pytest.mark.parametrize("text", ["Tue Nov 10 23:00:05 2009", "2009-11-10 23:00:05", "20091110"])
def test_a_time_without_a_zone_is_given_without_one(text: str) -> None:
    found = read_time(text)
    assert found is not None
    assert found.tzinfo is None


@pytest.mark.parametrize(
    "text",
    [
        *["", "yesterday", "10/11/2009, 23:00:05", "1e400", "9" * 40, "2009-13-01T00:00:00Z"],
        *["Tue Nov 10 23:00:05 IST 2009", "2009-11-10 23:00:05 CET", "\ud800", "\x00", "x" * 500],
    ],
    ids=ascii,
)
def test_what_is_no_time_or_may_be_several_is_none(text: str) -> None:
    assert read_time(text) is None


@given(
    st.datetimes(
        timezones=st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
    )
)
def test_a_time_of_go_or_of_mail_is_read_as_the_moment_it_is(at: datetime) -> None:
    date = f"{at.year:04d}-{at.month:02d}-{at.day:02d}"
    assert read_time(f"{date} {at:%H:%M:%S}.{at.microsecond:06d}999 {at:%z} {at:%z}") == at


@given(st.text() | st.from_regex(r"[0-9 :,+./()\-TZGMTUCa-z]{0,40}"))
def test_any_text_is_a_time_or_none(text: str) -> None:
    assert isinstance(read_time(text), datetime | None)
