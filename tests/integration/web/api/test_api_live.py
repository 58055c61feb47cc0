"""Counts as they change: told once each, to any number of listeners by one poll."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from datetime import UTC, datetime

import httpx
import pytest

from pipeline.event.model import Event
from pipeline.services import Services
from pipeline.web.api import live_counts
from tests.helpers.api_server import NO_TLS, sse
from tests.helpers.support import Workers, count_events, eventually
from tests.helpers.web_process import WebProcess
from tests.integration.web.api.conftest import Api


def now(event_type: str = "page_view") -> Event:
    return Event.create(event_type, now=datetime.now(UTC))


def test_all_counts_come_first_and_then_those_that_change(services: Services, api: Api) -> None:
    count_events(services, now(), now(), now("signup"))
    with api.reader.stream("GET", "/api/stats/live") as response:
        events = sse(response)
        first = next(events)
        count_events(services, now("signup"))
        second = next(events)
        services.flush()
        count_events(services, now(), now("new"))
        third = next(events)

    today = f"{datetime.now(UTC).date()}"
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert first == ("counts", {"date": today, "counts": {"page_view": 2, "signup": 1}})
    assert second == ("counts", {"date": today, "counts": {"signup": 2}})
    assert third == ("counts", {"date": today, "counts": {"page_view": 3, "new": 1}})


def test_a_listener_hears_of_the_types_it_asked_for(services: Services, api: Api) -> None:
    path = "/api/stats/live?event_type=signup&event_type=never"
    with api.reader.stream("GET", path) as response:
        events = sse(response)
        first = next(events)
        count_events(services, now())
        count_events(services, now("signup"))
        second = next(events)

    assert first[1]["counts"] == {"signup": 0, "never": 0}
    assert second[1]["counts"] == {"signup": 1}


def test_a_browser_sends_its_token_in_the_query(api: Api) -> None:
    path = f"/api/stats/live?event_type=x&token={api.token}"
    with api.stranger.stream("GET", path) as response:
        assert next(sse(response))[1]["counts"] == {"x": 0}


def test_many_listeners_share_one_poll(services: Services, api: Api) -> None:
    def calls() -> int:
        return int(services.redis.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))

    with ExitStack() as stack:
        streams = []
        for _ in range(20):
            client = stack.enter_context(
                httpx.Client(base_url=api.origin, timeout=30, verify=NO_TLS)
            )
            headers = {"Authorization": f"Bearer {api.token}"}
            path = "/api/stats/live?event_type=page_view"
            streams.append(sse(stack.enter_context(client.stream("GET", path, headers=headers))))
        assert {next(one)[1]["counts"]["page_view"] for one in streams} == {0}
        before = calls()
        for n in range(1, 4):
            count_events(services, now())
            assert {next(one)[1]["counts"]["page_view"] for one in streams} == {n}
        # Three polls told them and some told nothing new; one each would be 60.
        assert calls() - before < 30


def test_a_revoked_token_ends_its_stream(api: Api) -> None:
    key, token = api.dependencies.access_keys.create("read", "short")
    headers = {"Authorization": f"Bearer {token}"}
    with api.stranger.stream("GET", "/api/stats/live?event_type=x", headers=headers) as response:
        events = sse(response)
        next(events)
        api.dependencies.access_keys.revoke(key.id)
        assert list(events) == []


def test_a_token_has_so_many_streams_and_leaves_room_to_others(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_counts, "MAX_LISTENERS_OF_TOKEN", 2)
    other = api.dependencies.access_keys.create("read", "other")[1]
    path = "/api/stats/live?event_type=x"
    with ExitStack() as stack:
        streams = [sse(stack.enter_context(api.reader.stream("GET", path))) for _ in range(2)]
        assert [next(stream)[0] for stream in streams] == ["counts"] * 2
        refused = api.reader.get(path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many")
        assert "retry-after" in refused.headers
        with api.stranger.stream("GET", f"{path}&token={other}") as stream:
            assert next(sse(stream))[0] == "counts"
    eventually(lambda: _is_let_in(api, path))


def _is_let_in(api: Api, path: str) -> bool:
    with api.reader.stream("GET", path) as stream:
        return stream.status_code == 200


@pytest.mark.timeout(90)
def test_a_server_that_stops_ends_its_streams_at_once(
    services: Services, workers: Workers, api: Api
) -> None:
    web = WebProcess(workers).start()
    headers = {"Authorization": f"Bearer {api.token}"}
    path = f"{web.origin}/api/stats/live?event_type=x"
    with httpx.stream("GET", path, headers=headers, timeout=30) as response:
        events = sse(response)
        next(events)
        assert web.process is not None
        web.process.process.send_signal(signal.SIGTERM)
        rest = list(events)  # ends, and not by a connection that was cut

    assert rest[-1] == ("comment", "the server stops")
    eventually(lambda: not web.process.alive())  # type: ignore[union-attr]
    assert "Traceback" not in web.said()
    assert "Cancel" not in web.said()


def test_the_largest_types_are_streamed_where_there_are_too_many(
    services: Services, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.web.api.live_counts.MAX_TYPES", 2)
    junk = [now(f"a{n}") for n in range(10)]
    count_events(services, *junk, *[now()] * 3, *[now("signup")] * 2)
    with api.reader.stream("GET", "/api/stats/live") as response:
        first = next(sse(response))
    assert first[1]["counts"] == {"page_view": 3, "signup": 2}
