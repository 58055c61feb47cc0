"""The Live page and its stream: one read a second for all who watch."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from html import unescape
from typing import Any

import httpx
import pytest

from pipeline.services import Services
from pipeline.web.dashboard.live import feed, numbers
from pipeline.web.dashboard.live.numbers import LiveNumbers, LiveReader
from tests.helpers.api_server import sse
from tests.helpers.support import count_events, eventually
from tests.integration.web.dashboard.conftest import DashboardSite
from tests.integration.web.dashboard.test_pages import SCRIPT, Tags, now_event

Stream = Iterator[tuple[str, Any]]
UTC = feed.View("UTC", "")
NAMES = {"numbers", "minutes", "quarters", "types", "events"}


@contextmanager
def _watch(browser: httpx.Client, query: str = "") -> Iterator[Stream]:
    with browser.stream("GET", f"/dashboard/live/stream{query}", timeout=20) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield sse(response)


def _find_part(stream: Stream, name: str, holds: str = "") -> str:
    """The next part of this name in which this text is."""
    for event, data in stream:
        if event == "part" and data["name"] == name and holds in unescape(data["html"]):
            return str(unescape(data["html"]))
    raise AssertionError(f"no {name} with {holds!r} came")


def _read_tiles(html: str) -> dict[str, str]:
    found = re.findall(r'<h2>(.*?)</h2>\s*<p class="number" title="(.*?)">', html)
    return {unescape(name): number for name, number in found}


def test_the_page_has_the_numbers_of_now_without_scripts(
    site: DashboardSite, services: Services
) -> None:
    count_events(services, *[now_event("page_view", f"u{n}", path="/") for n in range(7)])
    services.flush()
    count_events(services, now_event("signup", "u1"), now_event("page_view", "u2"))
    page = site.viewer.get("/dashboard/live").text
    tiles = _read_tiles(page)
    assert tiles["Messages waiting"] == "0"
    assert tiles["Events to archive"] == "9"
    assert next(n for name, n in tiles.items() if name.startswith("Since ")) == "9"
    assert page.count("<li><time") == 9
    assert '<a class="button" href="/dashboard/live">Refresh</a>' in page


def test_a_stream_sends_the_parts_and_then_those_that_change(
    site: DashboardSite, services: Services
) -> None:
    with _watch(site.viewer) as stream:
        first = [next(stream) for _ in NAMES]
        assert {data["name"] for _, data in first} == NAMES
        count_events(services, now_event(SCRIPT, "u1"))
        html = _find_part(stream, "events", "u1")
        shown = Tags(html.replace(SCRIPT, "")).found
        assert all(tag != "script" for tag, _ in shown)
        assert _read_tiles(_find_part(stream, "numbers", ">1<"))["Events to archive"] == "1"
        _find_part(stream, "types", "alert(1)")


def test_markup_of_events_is_escaped_in_the_stream(site: DashboardSite, services: Services) -> None:
    count_events(services, now_event(SCRIPT, SCRIPT, **{SCRIPT: SCRIPT}))
    with _watch(site.viewer) as stream:
        for _ in NAMES:
            _, data = next(stream)
            assert "<script" not in data["html"]


def test_a_filter_shows_one_type_and_what_waits_of_all(
    site: DashboardSite, services: Services
) -> None:
    count_events(services, *[now_event("page_view", f"u{n}") for n in range(5)])
    services.flush()
    services.archive_events()
    count_events(services, now_event("a b", "u8"), now_event("page_view", "u9"))
    page = unescape(site.viewer.get("/dashboard/live?type=a+b").text)
    tiles = _read_tiles(page)
    assert next(n for name, n in tiles.items() if name.startswith("Since ")) == "1"
    assert tiles["Events to archive"] == "2"
    assert "counted, in the event log, of all types" in page
    assert page.count("<li><time") == 1
    assert "The last 30 minutes" not in page
    assert 'href="/dashboard/live" aria-label="Take away the filter' in page
    assert 'data-stream="/dashboard/live/stream?type=a%20b"' in page.replace("a+b", "a%20b")
    with _watch(site.viewer, "?type=a+b") as stream:
        _find_part(stream, "events", "u8")
        count_events(services, now_event("page_view", "other"), now_event("a b", "mine"))
        assert "other" not in _find_part(stream, "events", "mine")
        assert 'aria-current="true">a b<' in _find_part(stream, "types")
    assert (
        _read_tiles(site.viewer.get("/dashboard/live?type=none").text)["Events to archive"] == "4"
    )


def test_minutes_are_those_in_which_events_were_counted(
    site: DashboardSite, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("READ_AGAIN_S", "_SLOW_AGAIN_S"):
        monkeypatch.setattr(numbers, name, 0.01)
    assert "Not known: a flush worker notes it" in site.viewer.get("/dashboard/live").text
    minute_s = int(time.time()) // 60 * 60
    services.redis.hset(services.keys.totals, "counted", 1_000)
    for back_s, counted in ((180, 100), (165, 140), (150, 200), (60, 500), (45, 507)):
        at_ms = (minute_s - back_s) * 1000
        services.redis.xadd(services.keys.history, {"counted": counted}, id=f"{at_ms}-1")
    services.redis.expire(services.keys.history, 60)
    page = site.viewer.get("/dashboard/live").text
    table = page.partition('aria-label="Events counted by minute as a table"')[2]
    rows = re.findall(r'<th scope="row">.*?</th><td class="number">(.*?)</td>', table)[:31]
    # What came between samples that are far apart is of no minute.
    known = [(position, n) for position, n in enumerate(rows) if n != "0"]
    assert (len(rows), [n for _, n in known]) == (31, ["100", "7"])
    assert known[1][0] - known[0][0] == 2


def test_many_viewers_share_one_read(
    site: DashboardSite, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[float] = []
    read_now = LiveReader._read_now  # what a read costs is spent there

    def note(self: LiveReader, now: Any, now_s: float, event_type: str) -> LiveNumbers:
        reads.append(now_s)
        return read_now(self, now, now_s, event_type)

    monkeypatch.setattr(LiveReader, "_read_now", note)

    def watch(number: int) -> str:
        with _watch(site.viewer, "" if number % 2 else "?zone=Asia/Tokyo") as stream:
            return _find_part(stream, "events", "last-one")

    with ThreadPoolExecutor(20) as threads:
        began_s = time.monotonic()
        found = [threads.submit(watch, number) for number in range(20)]
        eventually(lambda: len(reads) >= 2)
        count_events(services, now_event("a", "last-one"))
        assert all(one.result(20) for one in found)
        took_s = time.monotonic() - began_s
    assert len(reads) <= took_s / numbers.READ_AGAIN_S + 1


def test_a_stream_ends_within_seconds_of_its_token(site: DashboardSite) -> None:
    with _watch(site.viewer) as stream:
        next(stream)
        site.dependencies.access_keys.revoke(site.token_id)
        began_s = time.monotonic()
        assert all(event != "problem" for event, _ in stream)
        assert time.monotonic() - began_s < 6


def test_zones_and_viewers_are_bounded(
    site: DashboardSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "SHARE_OF_TOKEN", 1)
    monkeypatch.setattr(feed, "MOST_VIEWS", 1)
    monkeypatch.setattr(feed, "MOST_VIEWERS", 2)
    with _watch(site.viewer) as first, _watch(site.viewer) as second:
        next(first)
        next(second)
        answer = site.viewer.get("/dashboard/live/stream")
        assert answer.status_code == 503
        monkeypatch.setattr(feed, "MOST_VIEWERS", 3)
        assert site.viewer.get("/dashboard/live/stream?zone=Asia/Tokyo").status_code == 429
    eventually(lambda: _answers(site.viewer, "?zone=Asia/Tokyo"))  # when the others have gone


def test_a_token_leaves_room_for_others(
    site: DashboardSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MOST_VIEWS", 2)
    monkeypatch.setattr(feed, "MOST_VIEWERS", 4)
    with _watch(site.viewer) as first:
        next(first)
        assert site.viewer.get("/dashboard/live/stream?zone=Asia/Tokyo").status_code == 429
        assert _answers(site.operator, "?zone=Asia/Tokyo")
        with _watch(site.viewer) as second:
            next(second)
            assert site.viewer.get("/dashboard/live/stream").status_code == 429
            assert _answers(site.operator, "")


def test_what_asks_for_the_head_of_a_stream_is_no_viewer(site: DashboardSite) -> None:
    answer = site.viewer.head("/dashboard/live/stream")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")


def _answers(browser: httpx.Client, query: str) -> bool:
    with browser.stream("GET", f"/dashboard/live/stream{query}") as response:
        return response.status_code == 200


def test_a_viewer_gets_what_changed_and_all_after_a_problem() -> None:
    viewer = feed._Viewer(UTC, "a-token")
    assert viewer.take_news({"a": b"1", "b": b"1"}) == [b"1", b"1"]
    assert viewer.take_news({"a": b"1", "b": b"2"}) == [b"2"]
    assert viewer.take_news({"problem": b"away"}) == [b"away"]
    assert viewer.take_news({"problem": b"away"}) == []
    assert viewer.take_news({"a": b"1", "b": b"2"}) == [b"1", b"2"]


def test_a_read_that_fails_is_a_problem_with_its_remedy(
    site: DashboardSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: LiveReader, event_type: str) -> LiveNumbers:
        raise ConnectionError("postgresql://user:secret@host")

    with _watch(site.viewer) as stream:
        next(stream)
        monkeypatch.setattr(LiveReader, "read", fail)
        message = next(data["message"] for event, data in stream if event == "problem")
        assert "secret" not in message
        monkeypatch.undo()
        _find_part(stream, "numbers")


def test_a_stream_that_ends_lets_the_reads_end(site: DashboardSite, services: Services) -> None:
    from pipeline.reading.stats import Stats
    from pipeline.web.api.threads import ThreadPools
    from pipeline.web.dashboard.page import Sources

    sources = Sources(services, services.stats, services.types)
    assert isinstance(services.stats, Stats)
    reader = LiveReader(sources, site.dependencies.redis)

    async def watch() -> None:
        threads = ThreadPools(site.dependencies.redis, services.engine)
        made = feed.LiveFeed(reader, threads, site.dependencies.stopping)

        async def valid() -> bool:
            return True

        stream = made.stream(UTC, "a-token", valid)
        assert await anext(stream) == feed._RECONNECT
        assert await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        assert made._reads is not None
        await asyncio.wait_for(made._reads, 5)
        threads.close()

    asyncio.run(watch())
