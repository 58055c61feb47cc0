"""Series in every time zone: exact, flushed or not, and what was counted by the hour alone."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pipeline.errors import CountedByHour
from pipeline.reading.series.periods import Granularity
from pipeline.reading.series.reader import SeriesRequest
from pipeline.services import Services
from tests.helpers.support import count_events, event, execute

FIRST, LAST = date(2024, 9, 28), date(2024, 10, 8)  # Lord Howe and Adelaide change their clocks
ZONES = [
    *("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu"),
    *("Australia/Adelaide", "Australia/Lord_Howe", "Pacific/Chatham", "Pacific/Auckland"),
]


@pytest.fixture
def moments(services: Services) -> list[datetime]:
    """When events happened: some stored, some claimed, some live."""
    random = Random(7)
    begin = datetime(2024, 9, 26, tzinfo=UTC)
    found = [begin + timedelta(minutes=random.randrange(15 * 24 * 60)) for _ in range(900)]
    for part in (found[:400], found[400:600], found[600:]):
        count_events(services, *(event(timestamp=at) for at in part))
        if part is found[:400] or len(part) == 400:
            services.flush()
        elif len(part) == 200:
            services.claims.claim("open", 10_000, (0, 0))
    return found


def read(services: Services, zone: str, by: Granularity, *days: date) -> dict[str, int]:
    first, last = days or (FIRST, LAST)
    request = SeriesRequest("page_view", first, last, by, zone)
    (found,) = services.stats.read_series(request)
    assert found.count == sum(n for _, n in found.points)
    return dict(found.points)


def name_point(at: datetime, by: Granularity) -> str:
    """The point of a local time, by its own calendar."""
    if by == "quarter_hour":
        return at.replace(minute=at.minute // 15 * 15).isoformat()
    if by == "hour":
        return at.replace(minute=0).isoformat()
    day = at.date()
    if by == "week":
        day -= timedelta(days=day.weekday())
    return f"{day.replace(day=1) if by == 'month' else day}"


@pytest.mark.parametrize("zone", ZONES)
def test_points_of_any_zone_are_the_sums_of_their_events(
    services: Services, moments: list[datetime], zone: str
) -> None:
    local = [at.astimezone(ZoneInfo(zone)) for at in moments]
    inside = [at for at in local if FIRST <= at.date() <= LAST]

    for by in ("day", "week", "month", "quarter_hour", "hour"):
        expected = Counter(name_point(at, by) for at in inside)
        found = {at: n for at, n in read(services, zone, by).items() if n}
        if by == "hour" and zone == "Australia/Lord_Howe":
            # The hour in which clocks go back by half of one is two points.
            assert sum(found.values()) == sum(expected.values())
        else:
            assert found == expected, by


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "Asia/Kathmandu"])
def test_long_ranges_are_exact_too(services: Services, moments: list[datetime], zone: str) -> None:
    days = date(2023, 1, 1), date(2025, 3, 1)
    local = [at.astimezone(ZoneInfo(zone)) for at in moments]

    for by in ("day", "week", "month"):
        found = read(services, zone, by, *days)
        expected = Counter(name_point(at, by) for at in local)
        assert {at: n for at, n in found.items() if n} == expected, by


def test_a_day_without_events_has_zeros_and_one_across_a_clock_change_its_hours(
    services: Services,
) -> None:
    days = date(2026, 3, 29), date(2026, 3, 29)

    assert read(services, "Europe/Berlin", "day", *days) == {"2026-03-29": 0}
    hours = read(services, "Europe/Berlin", "hour", *days)
    assert (len(hours), sum(hours.values())) == (23, 0)
    assert list(hours)[1:3] == ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"]


@pytest.fixture
def by_hour(services: Services) -> Services:
    """What a version without quarter hours has counted: 5 stored and 2 live from 18:00 to 19:00,
    3 stored in the hour before; and an event of this version."""
    execute(
        services,
        "INSERT INTO analytics_hourly (event_type, hour, count) VALUES "
        "('page_view', '2025-03-14 18:00Z', 5), ('page_view', '2025-03-14 17:00Z', 3)",
    )
    execute(
        services,
        "INSERT INTO analytics_daily (event_type, date, count) VALUES "
        "('page_view', '2025-03-14', 8)",
    )
    for name in ("counter:page_view:2025-03-14:18", "counter:page_view:2025-03-14"):
        services.redis.set(f"analytics:{name}", 2)
        services.redis.sadd(services.keys.pending_flush, f"analytics:{name}")
    count_events(services, event(timestamp="2025-03-14T18:40:00Z"))
    return services


def test_what_was_counted_by_the_hour_serves_every_zone_of_full_hours(by_hour: Services) -> None:
    days = date(2025, 3, 14), date(2025, 3, 15)

    assert read(by_hour, "UTC", "day", *days) == {"2025-03-14": 11, "2025-03-15": 0}
    assert read(by_hour, "Asia/Tokyo", "day", *days) == {"2025-03-14": 0, "2025-03-15": 11}
    hours = read(by_hour, "UTC", "hour", *days)
    assert {at[:16]: n for at, n in hours.items() if n} == {
        "2025-03-14T17:00": 3,
        "2025-03-14T18:00": 8,
    }


def test_only_what_begins_within_such_an_hour_is_refused(by_hour: Services) -> None:
    days = date(2025, 3, 14), date(2025, 3, 15)

    # Adelaide's days begin at 13:30 UTC, and those of Kolkata at 18:30.
    assert read(by_hour, "Australia/Adelaide", "day", *days) == {"2025-03-14": 0, "2025-03-15": 11}
    assert read(by_hour, "Asia/Kolkata", "month", date(2025, 3, 1), date(2025, 3, 31)) == {
        "2025-03-01": 11
    }
    steps: list[tuple[str, Granularity]] = [
        ("Asia/Kolkata", "day"),
        ("Asia/Kolkata", "hour"),
        ("UTC", "quarter_hour"),
    ]
    for zone, by in steps:
        with pytest.raises(CountedByHour, match="2025-03-14 18:00") as refused:
            read(by_hour, zone, by, *days)
        assert "`analytics rebuild --from 2025-03-14 --to 2025-03-14`" in str(refused.value)


def test_a_rebuild_from_the_archive_parts_hours_that_were_counted_as_a_whole(
    services: Services,
) -> None:
    times = ["2025-03-14T18:20:00Z", "2025-03-14T18:40:00Z", "2025-03-14T18:50:00Z"]
    count_events(services, *(event(timestamp=at) for at in times))
    services.flush()
    services.archive_events()
    execute(services, "DELETE FROM analytics_quarter_hourly")
    days = date(2025, 3, 14), date(2025, 3, 15)
    with pytest.raises(CountedByHour):
        read(services, "Asia/Kolkata", "day", *days)

    services.rebuild([days[0]], datetime.now(UTC))

    assert read(services, "Asia/Kolkata", "day", *days) == {"2025-03-14": 1, "2025-03-15": 2}
    assert read(services, "UTC", "day", *days) == {"2025-03-14": 3, "2025-03-15": 0}


def test_events_of_this_version_alone_are_not_refused(services: Services) -> None:
    count_events(services, event(timestamp="2025-03-14T18:40:00Z"))
    days = date(2025, 3, 14), date(2025, 3, 15)

    for _ in range(2):
        found = read(services, "Asia/Kolkata", "day", *days)
        assert found == {"2025-03-14": 0, "2025-03-15": 1}
        services.flush()


def test_the_command_prints_series_of_any_zone(services: Services, analytics: Any) -> None:
    count_events(
        services,
        event(timestamp="2025-03-13T18:29:00Z"),
        event(timestamp="2025-03-13T18:30:00Z"),
        event(timestamp="2024-03-14T10:00:00Z"),
    )
    command = ["stats", "series", "page_view", "--from", "2025-03-13", "--to", "2025-03-14"]
    zone = ["--zone", "Asia/Kolkata"]

    code, out, _ = analytics(*command, *zone, "--json")
    assert (code, json.loads(out)) == (
        0,
        {
            "series": [{"at": "2025-03-13", "count": 1}, {"at": "2025-03-14", "count": 1}],
            "by": "day",
            "zone": "Asia/Kolkata",
        },
    )
    _, out, _ = analytics(*command, *zone, "--compare", "year", "--csv")
    assert out.splitlines() == [
        "period,at,count",
        *("previous,2024-03-13,0", "previous,2024-03-14,1"),
        *("current,2025-03-13,1", "current,2025-03-14,1"),
    ]
    _, out, _ = analytics(*command, *zone, "--by", "quarter_hour")
    assert "2025-03-14 00:00 +05:30" in out
    assert "quarter hour (Asia/Kolkata)" in out
    _, out, _ = analytics(*command, "--by", "hour", "--json")
    assert json.loads(out)["series"][18] == {"at": "2025-03-13T18:00:00+00:00", "count": 2}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--zone", "Asia/Kolkatta"], "did you mean Asia/Kolkata?"),
        (["--zone", "Mars/Base"], "'Mars/Base' is no time zone"),
        (
            ["--zone", "Africa/Monrovia", "--from", "1970-01-01", "--to", "1970-01-02"],
            "was not whole quarter hours",
        ),
        (["--by", "quarter_hour", "--from", "2024-01-01"], "ask for at most 100 days"),
        (["--zone", "Asia/Kolkata", "--from", "2020-01-01"], "ask for at most 800 days"),
        (["--compare", "year", "--from", "0002-01-01", "--to", "0002-01-02"], "no range before"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(
    services: Services, analytics: Any, options: list[str], said: str
) -> None:
    command = ["stats", "series", "page_view", "--from", "2025-03-13", "--to", "2025-03-14"]

    code, out, err = analytics(*command, *options)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_the_command_says_what_was_counted_by_the_hour(by_hour: Services, analytics: Any) -> None:
    command = ["stats", "series", "page_view", "--from", "2025-03-14", "--zone", "Asia/Kolkata"]

    code, out, err = analytics(*command, "--to", "2025-03-15")

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "a day of Asia/Kolkata begins within an hour of UTC that was counted as a whole" in err
