"""Routes about what was seen: event types, properties."""

from __future__ import annotations

from pipeline.services import Services
from tests.helpers.support import NOW, count_events, event
from tests.integration.web.api.conftest import Api


def count(services: Services) -> None:
    count_events(services, event(properties={"path": "/", "plan": "pro"}), event("sale"))
    services.flush()
    services.archive_events()


def test_types_are_listed_exactly_and_with_their_newest(services: Services, api: Api) -> None:
    count(services)
    count_events(services, event("sale"))

    response = api.reader.get("/api/stats/types", params={"limit": 1})
    again = api.reader.get(
        "/api/stats/types", params={"limit": 1}, headers={"If-None-Match": response.headers["ETag"]}
    )
    table = api.reader.get("/api/stats/types?format=csv")

    at = NOW.isoformat()
    assert response.json() == {
        "types": [{"event_type": "sale", "count": 2, "last": at}],
        "more": 1,
        "as_of": None,
    }
    assert again.status_code == 304
    assert table.text.splitlines() == ["event_type,count,last", f"sale,2,{at}", f"page_view,1,{at}"]


def test_properties_are_listed_with_their_values(services: Services, api: Api) -> None:
    count(services)

    response = api.reader.get("/api/stats/properties", params={"event_type": "page_view"})
    table = api.reader.get("/api/stats/properties?event_type=page_view&format=csv")

    found = response.json()
    assert (found["event_type"], found["events"], found["since"]) == ("page_view", 1, None)
    assert [(one["property"], one["counted"], one["sampled"]) for one in found["properties"]] == [
        ("path", True, False),
        ("plan", False, True),
    ]
    assert found["properties"][1]["values"] == [{"value": "pro", "count": 1}]
    assert len(table.text.splitlines()) == 3


def test_fresh_properties_are_archived_first(services: Services, api: Api) -> None:
    count_events(services, event(properties={"path": "/"}))
    query = {"event_type": "page_view"}

    before = api.reader.get("/api/stats/properties", params=query).json()
    after = api.reader.get("/api/stats/properties", params={**query, "fresh": "true"}).json()

    assert (before["events"], after["events"]) == (0, 1)
    assert after["as_of"] is not None
