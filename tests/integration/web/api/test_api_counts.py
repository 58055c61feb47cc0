"""Every number of the stats API is the one that Redis and Postgres hold, flushed or not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from threading import Event as Flag
from threading import Thread

import httpx
import pytest
from sqlalchemy import text

from pipeline.event.model import Event
from pipeline.services import Services
from tests.helpers.support import TODAY, count_events, event, eventually, execute
from tests.integration.web.api.conftest import Api

DAY = TODAY.isoformat()


def some(n: int, event_type: str = "page_view", **fields: object) -> list[object]:
    return [event(event_type, **fields) for _ in range(n)]  # type: ignore[arg-type]


def half_flushed(services: Services, *events: object) -> None:
    """One half of the counts in Postgres, the other in Redis."""
    middle = len(events) // 2
    count_events(services, *events[:middle])  # type: ignore[arg-type]
    services.flush()
    count_events(services, *events[middle:])  # type: ignore[arg-type]


def get(client: httpx.Client, path: str, **query: object) -> object:
    response = client.get(path, params=query)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    return response.json()


def test_a_count_adds_what_is_stored_and_what_is_live(services: Services, api: Api) -> None:
    half_flushed(services, *some(7), *some(2, "signup"))

    found = get(api.reader, "/api/stats/count", **{"event_type": "page_view", "from": DAY})

    assert found["count"] == 7  # type: ignore[index]


def test_a_count_without_days_is_that_of_today(services: Services, api: Api) -> None:
    now = datetime.now(UTC)
    count_events(services, Event.create("page_view", now=now), event())

    found = get(api.reader, "/api/stats/count", event_type="page_view")

    assert found == {
        "event_type": "page_view",
        "from": f"{now.date()}",
        "to": f"{now.date()}",
        "count": 1,
    }


def test_hours_are_those_of_the_day(services: Services, api: Api) -> None:
    half_flushed(services, *some(5), event(timestamp="2025-03-14T00:30:00Z"))

    found = get(api.reader, "/api/stats/hourly", event_type="page_view", date=DAY)

    assert found["counts"] == services.stats.hourly_counts("page_view", TODAY)  # type: ignore[index]
    assert found["counts"][15] == 5  # type: ignore[index]
    assert found["counts"][0] == 1  # type: ignore[index]


@pytest.fixture
def weeks(services: Services) -> dict[datetime, int]:
    """Events of three months, by their hour, half of them flushed."""
    random, hours = Random(6), {}
    events = []
    for day in range(0, 100, 3):
        at = datetime(2024, 12, 5, random.randrange(24), tzinfo=UTC) + timedelta(days=day)
        hours[at] = hours.get(at, 0) + random.randint(1, 4)
        events += [event(timestamp=at) for _ in range(hours[at])]
    half_flushed(services, *events)
    return hours


def series(api: Api, **query: str) -> dict[str, int]:
    wanted = {"event_type": "page_view", "from": "2024-12-01", "to": "2025-03-31", **query}
    found = get(api.reader, "/api/stats/series", **wanted)
    assert found["count"] == sum(one["count"] for one in found["series"])  # type: ignore[index]
    return {one["at"]: one["count"] for one in found["series"]}  # type: ignore[index]


def test_a_series_by_hour_has_every_hour(api: Api, weeks: dict[datetime, int]) -> None:
    found = series(api, granularity="hour")

    assert len(found) == 121 * 24
    assert {at: n for at, n in found.items() if n} == {at.isoformat(): n for at, n in weeks.items()}


def test_weeks_begin_on_monday_and_months_on_the_first(
    api: Api, weeks: dict[datetime, int]
) -> None:
    by_week: dict[str, int] = {}
    by_month: dict[str, int] = {}
    for at, n in weeks.items():
        monday = at.date() - timedelta(days=at.weekday())
        by_week[f"{monday}"] = by_week.get(f"{monday}", 0) + n
        by_month[f"{at:%Y-%m}-01"] = by_month.get(f"{at:%Y-%m}-01", 0) + n

    weekly, monthly = series(api, granularity="week"), series(api, granularity="month")

    assert {at: n for at, n in weekly.items() if n} == by_week
    assert next(iter(weekly)) == "2024-11-25"
    assert monthly == by_month


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Pacific/Apia", "Asia/Kolkata", "Asia/Kathmandu"]
)
def test_days_of_a_zone_are_sums_of_their_hours(
    api: Api, weeks: dict[datetime, int], zone: str
) -> None:
    from zoneinfo import ZoneInfo

    by_day: dict[str, int] = {}
    for at, n in weeks.items():
        day = f"{at.astimezone(ZoneInfo(zone)).date()}"
        by_day[day] = by_day.get(day, 0) + n

    found = series(api, granularity="day", time_zone=zone)

    assert {at: n for at, n in found.items() if n} == by_day


def test_a_zone_that_is_not_whole_quarter_hours_from_utc_is_refused(api: Api) -> None:
    response = api.reader.get(
        "/api/stats/series",
        params={
            "event_type": "x",
            "from": "1970-01-01",
            "to": "1970-01-02",
            "time_zone": "Africa/Monrovia",
        },
    )

    assert response.status_code == 422
    assert response.json()["error"]["field"] == "time_zone"
    assert "was not whole quarter hours from UTC" in response.json()["error"]["message"]


def test_hours_that_were_counted_as_a_whole_are_refused_where_a_day_begins_within(
    services: Services, api: Api
) -> None:
    execute(
        services,
        f"INSERT INTO analytics_hourly (event_type, hour, count) VALUES ('x', '{DAY} 18:00Z', 5)",
    )
    query = {"event_type": "x", "from": DAY, "to": DAY, "time_zone": "Asia/Kolkata"}

    response = api.reader.get("/api/stats/series", params=query)
    in_adelaide = api.reader.get(
        "/api/stats/series", params={**query, "time_zone": "Australia/Adelaide"}
    )

    assert response.status_code == 409
    assert response.json()["error"]["code"] == "counted_by_hour"
    assert f"{DAY} 18:00" in response.json()["error"]["message"]
    assert in_adelaide.status_code == 200


@pytest.mark.parametrize(("how", "expected"), [("year", 2), ("weekdays", 1)])
def test_a_series_is_compared_with_the_year_before(
    services: Services, api: Api, how: str, expected: int
) -> None:
    days = ("2024-03-14", "2024-03-14", "2024-03-15", DAY)
    half_flushed(services, *(event(timestamp=f"{day}T12:00:00Z") for day in days))
    days_asked = {"from": DAY, "to": DAY}

    found = get(api.reader, "/api/stats/series", event_type="page_view", compare=how, **days_asked)

    assert (found["count"], found["previous"]["count"]) == (1, expected)  # type: ignore[index]


def test_the_period_before_is_as_many_months_where_the_range_is_months(
    api: Api, weeks: dict[datetime, int]
) -> None:
    found = get(
        api.reader,
        "/api/stats/series",
        **{"event_type": "page_view", "from": "2025-03-01", "to": "2025-03-31"},
        compare="previous",
    )

    previous = found["previous"]  # type: ignore[index]
    assert (previous["from"], previous["to"]) == ("2025-02-01", "2025-02-28")
    assert previous["count"] == sum(n for at, n in weeks.items() if at.month == 2)
    assert found["count"] == sum(n for at, n in weeks.items() if at.month == 3)  # type: ignore[index]


def test_a_ranking_of_a_property_that_is_not_counted_says_so(services: Services, api: Api) -> None:
    count_events(services, *some(1, user_id="ann"))  # type: ignore[arg-type]
    for of, said in (("plan", {"counted": False}), ("path", {}), ("user", {})):
        found = get(api.reader, "/api/stats/top", event_type="page_view", of=of)
        assert found == {"event_type": "page_view", "of": of, "as_of": None, "top": []} | said


def test_a_ranking_is_as_of_the_last_flush_unless_a_fresh_one_is_asked_for(
    services: Services, api: Api
) -> None:
    count_events(services, *some(3, user_id="ann"), *some(1, user_id="bob"))  # type: ignore[arg-type]
    before = get(api.reader, "/api/stats/top", event_type="page_view")

    after = get(api.reader, "/api/stats/top", event_type="page_view", fresh="true")

    assert before == {"event_type": "page_view", "of": "user", "as_of": None, "top": []}
    assert after["top"] == [{"value": "ann", "count": 3}, {"value": "bob", "count": 1}]  # type: ignore[index]
    stored = execute(services, "SELECT max(stored_at) FROM flush_batches")[0][0]
    assert datetime.fromisoformat(after["as_of"]) == stored  # type: ignore[index]


@pytest.mark.parametrize("value", ["/pricing", "a b", "ä/%2F?&#", "x" * 300, "counts", "..%2f"])
def test_a_value_of_a_property_may_hold_any_text(services: Services, api: Api, value: str) -> None:
    half_flushed(services, *some(4, properties={"path": value}))
    from urllib.parse import quote

    found = get(
        api.reader,
        f"/api/properties/path/{quote(value, safe='')}/counts",
        **{"event_type": "page_view", "from": DAY, "to": DAY},
    )

    assert found["count"] == 4  # type: ignore[index]
    assert found["days"] == [{"date": DAY, "count": 4}]  # type: ignore[index]
    assert found["value"] == value  # type: ignore[index]
    assert found["counted"] is True  # type: ignore[index]


@pytest.mark.parametrize("user_id", ["u1", "a/b/counts", "ä ö", "%2F", "50%", "..", "*"])
def test_a_user_is_found_by_any_id(services: Services, api: Api, user_id: str) -> None:
    from urllib.parse import quote

    half_flushed(
        services,
        *some(3, user_id=user_id),
        event("signup", user_id, timestamp="2025-03-01T10:00:00Z"),
        event("page_view", "another"),
    )
    path = f"/api/users/{quote(user_id, safe='') if user_id != '..' else '%2E%2E'}"

    counts = get(api.reader, f"{path}/counts")
    found = get(api.reader, path)

    assert counts["user_id"] == user_id  # type: ignore[index]
    assert counts["counts"] == {"page_view": {DAY: 3}, "signup": {"2025-03-01": 1}}  # type: ignore[index]
    assert found == {
        "user_id": user_id,
        "count": 4,
        "first_day": "2025-03-01",
        "last_day": DAY,
        "event_types": {"page_view": 3, "signup": 1},
    }


def test_counts_stay_exact_while_a_flush_runs(services: Services, api: Api) -> None:
    """They never go down, and what was counted before a read began is in it."""
    stop, counted, failed = Flag(), [0], []

    def traffic() -> None:
        while not stop.is_set():
            count_events(services, *some(5, user_id="u1", properties={"path": "/"}))  # type: ignore[arg-type]
            counted[0] += 5

    def flushes() -> None:
        while not stop.is_set():
            services.flush()

    threads = [Thread(target=traffic), Thread(target=flushes)]
    for thread in threads:
        thread.start()
    days = {"event_type": "page_view", "from": DAY, "to": DAY}
    paths = {
        "/api/stats/count": days,
        "/api/stats/series": {**days, "time_zone": "Europe/Berlin"},
        "/api/properties/path/%2F/counts": days,
        "/api/users/u1": {},
    }
    try:
        newest = dict.fromkeys(paths, 0)
        for _ in range(40):
            for path, query in paths.items():
                least = max(counted[0], newest[path])
                newest[path] = get(api.reader, path, **query)["count"]  # type: ignore[index]
                if newest[path] < least:
                    failed.append((path, least, newest[path]))
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert not failed
    assert newest["/api/stats/count"] > 0
    eventually(lambda: services.flush() == 0)
    with services.engine.connect() as connection:
        stored = connection.execute(text("SELECT sum(count) FROM analytics_daily")).scalar_one()
    assert get(api.reader, "/api/stats/count", **days)["count"] == stored == counted[0]  # type: ignore[index]


def test_what_is_not_summed_or_counted_is_said(api: Api) -> None:
    found = api.reader.get("/api/stats/sum?event_type=sale&property=total&by_value=plan").json()
    assert (found["summed"], found["counted"], found["sum"]) == (False, False, "0")
    for measure in ("percentiles", "histogram"):
        found = api.reader.get(f"/api/stats/{measure}?event_type=sale&property=total").json()
        assert found["summed"] is False
    found = api.reader.get("/api/stats/sum?event_type=time_on_page&property=seconds")
    assert "summed" not in found.json()
    table = api.reader.get("/api/stats/sum?event_type=sale&property=total&format=csv").text
    assert table.splitlines()[0] == "event_type,property,sum,count,average,not_numbers,as_of"
