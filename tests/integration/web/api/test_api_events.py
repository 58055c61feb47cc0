"""Pages of archived events: every event once, whatever is archived meanwhile."""

from __future__ import annotations

from datetime import timedelta

from pipeline.services import Services
from tests.helpers.support import NOW, count_events, event
from tests.integration.web.api.conftest import Api


def ids(page: dict[str, object]) -> list[str]:
    return [one["event_id"] for one in page["events"]]  # type: ignore[attr-defined]


def archived(services: Services, first: int, n: int, minutes: int = 0) -> None:
    at = NOW - timedelta(minutes=minutes)
    events = [event(event_id=f"e{first + i}", timestamp=at, user_id=f"u{i % 2}") for i in range(n)]
    count_events(services, *events)
    services.archive_events()


def test_pages_hold_every_event_once_though_all_are_of_one_instant(
    services: Services, api: Api
) -> None:
    archived(services, 0, 5)
    archived(services, 5, 7, minutes=2_000)  # in another partition
    archived(services, 12, 5)
    seen, cursor = [], {}
    while cursor is not None:
        page = api.reader.get("/api/events", params={"limit": 4, **cursor}).json()
        assert len(page["events"]) <= 4
        seen += ids(page)
        cursor = {"cursor": page["next"]} if page["next"] else None
        archived(services, 100 + len(seen), 1)  # newer than what follows

    assert sorted(seen) == sorted(f"e{i}" for i in range(17))
    assert set(seen[-7:]) == {f"e{i}" for i in range(5, 12)}


def test_a_page_of_large_events_is_short_and_leaves_none_out(services: Services, api: Api) -> None:
    large = {"text": "x" * 30_000}
    for first in range(0, 200, 20):
        numbers = range(first, first + 20)
        count_events(services, *[event(event_id=f"e{n}", properties=large) for n in numbers])
    services.archive_events()
    seen, cursor = [], {}
    while cursor is not None:
        answer = api.reader.get("/api/events", params={"limit": 1_000, **cursor})
        assert len(answer.content) < 1_500_000
        seen += ids(answer.json())
        cursor = {"cursor": answer.json()["next"]} if answer.json()["next"] else None
    assert sorted(seen) == sorted(f"e{n}" for n in range(200))


def test_events_are_those_of_a_type_a_user_and_a_time(services: Services, api: Api) -> None:
    archived(services, 0, 4)
    archived(services, 10, 2, minutes=3_000)
    count_events(services, event("signup", "u1", properties={"plan": "pro"}, event_id="s"))
    services.archive_events()

    of_user = api.reader.get("/api/events", params={"user_id": "u1", "event_type": "page_view"})
    of_day = api.reader.get("/api/events", params={"from": "2025-03-14", "to": "2025-03-14"})
    of_type = api.reader.get("/api/events", params={"event_type": "signup"})

    assert sorted(ids(of_user.json())) == ["e1", "e11", "e3"]
    assert sorted(ids(of_day.json())) == ["e0", "e1", "e2", "e3", "s"]
    assert of_type.json() == {
        "events": [
            {
                "event_type": "signup",
                "user_id": "u1",
                "properties": {"plan": "pro"},
                "timestamp": NOW.isoformat().replace("+00:00", "Z"),
                "event_id": "s",
            }
        ],
        "next": None,
    } or of_type.json()["events"][0]["properties"] == {"plan": "pro"}


def test_what_waits_in_the_log_is_shown_when_it_is_to_be_fresh(
    services: Services, api: Api
) -> None:
    count_events(services, event(event_id="waits"))

    stale = api.reader.get("/api/events").json()
    fresh = api.reader.get("/api/events?fresh=true").json()

    assert ids(stale) == []
    assert ids(fresh) == ["waits"]


def test_a_page_as_csv_names_the_next_one(services: Services, api: Api) -> None:
    archived(services, 0, 3)

    first = api.reader.get("/api/events?limit=2&format=csv")
    following = api.reader.get(first.links["next"]["url"])

    assert first.text.splitlines()[0] == "event_type,user_id,properties,timestamp,event_id"
    assert len(first.text.splitlines()) == 3
    assert len(following.text.splitlines()) == 2
    assert "next" not in following.links
