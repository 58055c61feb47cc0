"""No read token takes the API from the others, and no answer grows without bound."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import text

from pipeline.services import Services
from pipeline.web.api.queries import MOST_ROWS
from tests.helpers.support import eventually, execute
from tests.integration.web.api.conftest import Api

HOURS = "/api/stats/series?event_type=page_view&granularity=hour"
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '{}'::regclass"


@pytest.mark.parametrize(
    ("path", "table", "other_path"),
    [
        # Lookups
        ("/api/stats/count?event_type=x", "analytics_daily", "/api/stats/hourly?event_type=x"),
        # Scans
        ("/api/users/u1", "analytics_user_daily", "/api/stats/top?event_type=x&of=path"),
        (
            f"{HOURS}&from=2024-02-01&to=2025-02-28",
            "analytics_hourly",
            "/api/stats/count?event_type=x&from=2020-01-01&to=2025-01-01",
        ),
    ],
)
def test_the_reads_of_one_token_leave_threads_for_another(
    services: Services, api: Api, path: str, table: str, other_path: str
) -> None:
    with services.engine.connect() as blocking, ThreadPoolExecutor(12) as clients:
        blocking.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        held = [clients.submit(api.reader.get, path) for _ in range(12)]
        eventually(lambda: execute(services, WAITING.format(table))[0][0] >= 1)

        found = api.forgetter.get(other_path)

        blocking.rollback()
        assert found.status_code == 200, found.text
        assert {one.result().status_code for one in held} <= {200, 429, 503}


def test_what_a_token_asks_for_past_its_share_is_refused_with_the_remedy(
    services: Services, api: Api
) -> None:
    with services.engine.connect() as blocking, ThreadPoolExecutor(8) as clients:
        blocking.execute(text("LOCK TABLE analytics_daily IN ACCESS EXCLUSIVE MODE"))
        path = "/api/stats/count?event_type=x"
        held = [clients.submit(api.reader.get, path) for _ in range(8)]
        answers = [one.result() for one in held]
        blocking.rollback()

    assert {one.status_code for one in answers} == {503}
    assert all("fewer requests at once" in one.json()["error"]["message"] for one in answers)
    assert all(int(one.headers["retry-after"]) > 0 for one in answers)
    assert api.reader.get(path).status_code == 200


@pytest.mark.parametrize("as_csv", ["", "&format=csv", "&compare=previous"])
def test_hours_of_a_year_are_answered_and_those_of_two_are_refused(api: Api, as_csv: str) -> None:
    year = api.reader.get(f"{HOURS}&from=2024-01-01&to=2024-12-31{as_csv}")
    years = api.reader.get(f"{HOURS}&from=2024-01-01&to=2025-12-31{as_csv}")

    assert year.status_code == 200
    check_refused(years, "2024-01-01 is 731 days before the end", "400 days", "granularity=day")


def test_days_of_another_zone_are_no_longer_series_than_those_of_utc(api: Api) -> None:
    path = "/api/stats/series?event_type=x&from=2023-01-01&to=2024-12-31&time_zone=Europe/Berlin"

    assert len(api.reader.get(path).json()["series"]) == 731


@pytest.mark.parametrize("as_csv", ["", "?format=csv"])
def test_a_user_with_too_many_counts_is_read_in_parts(
    services: Services, api: Api, as_csv: str
) -> None:
    days = MOST_ROWS // 10 + 1
    execute(
        services,
        "INSERT INTO analytics_user_daily (user_id, event_type, date, count) "
        "SELECT 'u1', 'type' || t, DATE '2015-01-01' + d, 1 "
        f"FROM generate_series(1, 10) t, generate_series(0, {days - 1}) d",
    )
    path = f"/api/users/u1/counts{as_csv}"

    every = api.reader.get(path)
    part = api.reader.get(path, params={"from": "2015-01-01", "to": "2015-12-31"})

    check_refused(every, f"{days * 10} days and event types", f"{MOST_ROWS}", "from=… and to=…")
    assert part.status_code == 200
    assert api.reader.get("/api/users/u1").json()["count"] == days * 10


def check_refused(response: httpx.Response, *said: str) -> None:
    assert response.status_code == 422, response.text
    error = response.json()["error"]
    assert error["field"] == "from"
    for words in said:
        assert words in error["message"]
