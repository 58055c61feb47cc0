"""All event types at once: equal to the series and the counts of each."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from pipeline.event.model import Event
from pipeline.services import Services
from tests.helpers.support import NOW, count_events
from tests.integration.web.api.conftest import Api

DAYS = {"from": "2025-03-13", "to": "2025-03-14"}
TYPES = [f"t{n}" for n in range(6)]


@pytest.fixture
def counted(services: Services) -> None:
    """Events of six days and six types, some of them stored."""
    chance = random.Random(1)
    for stored in range(3):
        events = []
        for _ in range(60):
            at = NOW - timedelta(minutes=chance.randrange(6 * 24 * 60))
            events.append(
                Event.create(chance.choice(TYPES[: stored + 4]), "u", now=NOW, timestamp=at)
            )
        count_events(services, *events)
        if stored < 2:
            services.flush()


@pytest.mark.parametrize("granularity", ["quarter_hour", "hour", "day", "week"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_it_equals_what_is_asked_for_each_type(
    api: Api, counted: None, granularity: str, zone: str
) -> None:
    query = {**DAYS, "granularity": granularity, "time_zone": zone, "compare": "previous"}
    found = api.reader.get("/api/stats/overview", params=query).json()
    each = {
        name: api.reader.get("/api/stats/series", params={**query, "event_type": name}).json()
        for name in TYPES
    }
    for of in (lambda one: one, lambda one: one["previous"]):
        assert of(found)["count"] == sum(of(one)["count"] for one in each.values()) > 0
        assert of(found)["series"] == [
            {"at": points[0]["at"], "count": sum(point["count"] for point in points)}
            for points in zip(*(of(one)["series"] for one in each.values()), strict=True)
        ]
        assert (of(found)["from"], of(found)["to"]) == (
            of(each["t0"])["from"],
            of(each["t0"])["to"],
        )
    assert {one["event_type"]: (one["count"], one["previous"]) for one in found["types"]} == {
        name: (one["count"], one["previous"]["count"])
        for name, one in each.items()
        if one["count"] or one["previous"]["count"]
    }
    counts = [one["count"] for one in found["types"]]
    assert (counts, found["more"]) == (sorted(counts, reverse=True), 0)


def test_the_largest_are_listed_also_as_a_table(api: Api, counted: None) -> None:
    found = api.reader.get("/api/stats/overview", params={**DAYS, "limit": 2}).json()
    assert (len(found["types"]), found["more"], found["previous"]) == (2, 4, None)
    assert found["types"][0]["previous"] is None
    headers = {"Accept": "text/csv"}
    query = {**DAYS, "limit": "2"}
    plain = api.reader.get("/api/stats/overview", params=query, headers=headers).text.splitlines()
    assert plain[0] == "event_type,count"
    assert plain[1:] == [f"{one['event_type']},{one['count']}" for one in found["types"]]
    compared = api.reader.get(
        "/api/stats/overview", params={**query, "compare": "year"}, headers=headers
    ).text
    assert compared.splitlines()[0] == "event_type,count,previous"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"event_type": "t1"}, "event_type"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"granularity": "second"}, "granularity"),
        ({"limit": "0"}, "limit"),
        ({"to": "2025-01-01"}, "to"),
        ({"from": "2015-01-01", "to": "2025-01-01", "granularity": "hour"}, "from"),
        ({"from": "1970-01-01", "to": "2025-01-01", "compare": "previous"}, "from"),
    ],
)
def test_a_wrong_parameter_is_named(api: Api, query: dict[str, str], field: str) -> None:
    answer = api.reader.get("/api/stats/overview", params=query)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)
