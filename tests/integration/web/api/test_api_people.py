"""People over HTTP: users, active ones, retention; as JSON and CSV, with an ETag, fresh or not."""

from __future__ import annotations

from datetime import datetime

import pytest

from pipeline.services import Services
from tests.helpers.measures.people import CLOCK, TODAY, day_before, track, visit
from tests.helpers.support import count_events, execute
from tests.integration.web.api.conftest import Api

YESTERDAY, BEFORE = day_before(1), day_before(9)


@pytest.fixture
def lived(services: Services) -> Services:
    """Some days of some users."""
    track(services, (BEFORE, "ann"), (YESTERDAY, "ann"), (YESTERDAY, "bob"))
    track(services, (YESTERDAY, "bob", "purchase"), (TODAY, "bob"))
    services.seal_users(CLOCK)
    return services


def test_users_new_and_returning(lived: Services, api: Api) -> None:
    found = api.reader.get(
        f"/api/stats/users?event_type=page_view&event_type=purchase&from={YESTERDAY}&to={TODAY}"
    ).json()
    as_of = execute(lived, "SELECT max(stored_at) FROM flush_batches")[0][0]
    assert datetime.fromisoformat(found.pop("as_of")) == as_of
    assert found == {
        "event_types": ["page_view", "purchase"],
        "from": f"{YESTERDAY}",
        "to": f"{TODAY}",
        "users": 2,
        "new": 1,
        "returning": 1,
    }
    assert api.reader.get("/api/stats/users").json()["users"] == 1


def test_users_by_period(lived: Services, api: Api) -> None:
    found = api.reader.get(f"/api/stats/users?from={YESTERDAY}&by=day").json()
    assert found["series"] == [
        {"at": f"{YESTERDAY}", "users": 2, "new": 1, "returning": 1},
        {"at": f"{TODAY}", "users": 1, "new": 0, "returning": 1},
    ]


def test_active_users(lived: Services, api: Api) -> None:
    found = api.reader.get("/api/stats/active").json()
    numbers = {name: found[name] for name in ("date", "dau", "wau", "mau", "stickiness")}
    assert numbers == {"date": f"{TODAY}", "dau": 1, "wau": 2, "mau": 2, "stickiness": 0.5}


def test_retention(lived: Services, api: Api) -> None:
    query = f"start=page_view&return=page_view&from={YESTERDAY}"
    found = api.reader.get(f"/api/stats/retention?{query}").json()
    assert found["cohorts"] == [
        {"start": f"{YESTERDAY}", "users": 2, "returned": [2, 1]},
        {"start": f"{TODAY}", "users": 1, "returned": [1]},
    ]
    table = api.reader.get(f"/api/stats/retention?{query}&format=csv").text
    assert table.splitlines() == [
        "start,users,period,returned",
        f"{YESTERDAY},2,0,2",
        f"{YESTERDAY},2,1,1",
        f"{TODAY},1,0,1",
    ]


def test_fresh_flushes_first(lived: Services, api: Api) -> None:
    count_events(lived, visit(TODAY, "cid"))
    assert api.reader.get("/api/stats/users").json()["users"] == 1
    assert api.reader.get("/api/stats/active?fresh=true").json()["dau"] == 2
    assert api.reader.get("/api/stats/users").json()["users"] == 2


@pytest.mark.parametrize(
    ("path", "field", "reason"),
    [
        ("users?by=year", "by", "day"),
        ("users?by=day&from=2020-01-01&to=2025-01-01", "from", "at most 400"),
        ("users?event_type=", "event_type", "at least 1"),
        ("users?from=2026-02-30", "from", "is not a day"),
        ("retention?start=a", "return", "is required"),
        ("retention?start=a&return=b&from=2020-01-01&to=2025-01-01", "from", "at most 400"),
        ("active?date=tomorrow", "date", "is not a day"),
    ],
)
def test_what_cannot_be_asked_is_said(api: Api, path: str, field: str, reason: str) -> None:
    response = api.reader.get(f"/api/stats/{path}")
    error = response.json()["error"]
    assert (response.status_code, error["field"]) == (422, field)
    assert reason in error["message"]


@pytest.mark.parametrize("sent", ['"page_view"', " page_view"])
def test_steps_of_retention_are_read_as_those_of_a_funnel(
    lived: Services, api: Api, sent: str
) -> None:
    params = {"start": sent, "return": sent, "from": f"{YESTERDAY}", "to": f"{YESTERDAY}"}
    answer = api.reader.get("/api/stats/retention", params=params)
    assert answer.json()["cohorts"] == [{"start": f"{YESTERDAY}", "users": 2, "returned": [2]}]
