"""`DELETE /api/users/{id}`, and user ids that are kept as pseudonyms."""

from __future__ import annotations

import logging
from urllib.parse import quote

import pytest

from pipeline.event.pseudonyms import pseudonym
from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.support import TODAY, count_events, event
from tests.integration.web.api.conftest import Api

SECRET = "a secret of the tests, long enough"


def test_a_token_that_may_only_read_is_refused(services: Services, api: Api) -> None:
    count_events(services, event(user_id="u1"))

    response = api.reader.delete("/api/users/u1")

    assert response.status_code == 403
    assert response.json()["error"]["code"] == "forbidden"
    assert "--allow-forget" in response.json()["error"]["message"]
    assert api.reader.get("/api/users/u1").json()["count"] == 1


def test_a_user_is_forgotten_by_a_token_that_may(services: Services, api: Api) -> None:
    user_id = "a/b ü"
    count_events(services, event(user_id=user_id), event(user_id=user_id, event_id="e"))
    services.flush()
    path = f"/api/users/{quote(user_id, safe='')}"

    first, again = api.forgetter.delete(path), api.forgetter.delete(path)

    assert first.status_code == again.status_code == 200
    assert first.json()["user_id"] == user_id
    assert (first.json()["counters"], first.json()["events"]) == (1, 2)
    assert (again.json()["counters"], again.json()["events"]) == (0, 0)
    assert api.reader.get(path).json()["count"] == 0
    days = {"event_type": "page_view", "from": f"{TODAY}"}
    assert api.reader.get("/api/stats/count", params=days).json()["count"] == 2
    assert api.reader.get("/api/events").json()["events"][0].get("user_id") is None


def test_a_user_whose_id_is_spaces_alone_is_forgotten_and_no_fault(api: Api) -> None:
    answer = api.forgetter.delete("/api/users/%20")

    assert (answer.status_code, answer.json()["events"]) == (200, 0)
    assert api.forgetter.delete(f"/api/users/{'x' * 2_000}").status_code == 422


@pytest.fixture
def services(make_services: MakeServices, request: pytest.FixtureRequest) -> Services:
    """With the secret, where the web server has it."""
    return make_services(**request.getfixturevalue("web_options"))


@pytest.mark.parametrize("web_options", [{"user_id_secret": SECRET}])
def test_a_user_is_found_and_forgotten_in_both_forms(
    make_services: MakeServices, services: Services, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    kept = pseudonym(SECRET, "u1")
    count_events(services, event(user_id=kept), event(user_id="u1"))
    count_events(make_services(), event(user_id="u1"))  # before the secret was set
    services.archive_events()

    by_id = api.reader.get("/api/users/u1").json()
    by_pseudonym = api.reader.get(f"/api/users/{kept}?pseudonym=true").json()
    events = api.reader.get("/api/events?user_id=u1").json()["events"]
    of_pseudonym = {"user_id": kept, "pseudonym": "true"}
    events_of_pseudonym = api.reader.get("/api/events", params=of_pseudonym).json()["events"]
    with caplog.at_level(logging.INFO, "pipeline.upkeep.erase"):
        removed = api.forgetter.delete("/api/users/u1").json()

    assert (by_id["count"], by_pseudonym["count"]) == (3, 2)
    assert sorted(one["user_id"] for one in events) == sorted([kept, kept, "u1"])
    assert len(events_of_pseudonym) == 2
    assert (removed["live_counters"], removed["stored_counters"], removed["events"]) == (2, 0, 3)
    assert services.stats.counts_of_user([kept, "u1"]) == {}
    [logged] = [one.message for one in caplog.records if one.name == "pipeline.upkeep.erase"]
    assert logged.startswith("token ")
    assert kept not in logged
    assert "u1" not in logged
