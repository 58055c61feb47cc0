from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from pipeline.event.model import Event
from pipeline.services import Services
from pipeline.web.dashboard.session.security import POLICY
from tests.helpers.support import count_events
from tests.integration.web.dashboard.conftest import DashboardSite

SCRIPT = "<script>alert(1)</script>"
QUOTES = "\"><img src=x onerror='alert(1)'>"


def now_event(event_type: str, user_id: str | None = None, **properties: Any) -> Event:
    now = datetime.now(UTC)
    return Event.create(event_type, user_id, now=now, properties=properties)


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_pages_forbid_everything_that_is_not_ours(site: DashboardSite) -> None:
    for path in ("/dashboard", "/dashboard/sign-in", "/dashboard/nothing", "/dashboard?range=x"):
        headers = site.viewer.get(path, follow_redirects=True).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
    assert "unsafe" not in POLICY


def test_pages_are_packed_where_the_browser_takes_that(site: DashboardSite) -> None:
    plain = site.viewer.get("/dashboard", headers={"Accept-Encoding": "identity"})
    packed = site.viewer.get("/dashboard", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Cookie, Accept-Encoding"
    assert "<h1>Overview" in packed.text
    assert packed.num_bytes_downloaded < plain.num_bytes_downloaded / 2


def test_files_are_kept_for_ever_and_named_by_their_bytes(site: DashboardSite) -> None:
    page = Tags(site.viewer.get("/dashboard").text)
    urls = [
        a.get("src") or a.get("href") for tag, a in page.found if tag in ("script", "link", "img")
    ]
    assert len(urls) >= 4
    for url in filter(None, urls):
        assert url.startswith("/dashboard/assets/")
        answer = site.stranger.get(url)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    other = site.stranger.get("/dashboard/assets/dashboard.000000000000.css")
    assert other.headers["cache-control"] == "no-store"
    assert site.stranger.get("/dashboard/assets/vendored.json").status_code == 404


def test_names_and_values_of_events_are_text_and_nothing_else(
    site: DashboardSite, services: Services
) -> None:
    count_events(
        services,
        now_event(SCRIPT, QUOTES),
        now_event("page_view", QUOTES, path=QUOTES),
        now_event("page_view", SCRIPT, path=SCRIPT),
    )
    services.flush()
    for path in (
        "/dashboard",
        f"/dashboard?type={SCRIPT}",
        "/dashboard?type=page_view&property=path&value=" + QUOTES.replace("&", "%26"),
        f"/dashboard?search={QUOTES}&zone={SCRIPT}",
    ):
        page = Tags(site.viewer.get(path).text)
        assert all(tag != "script" or attributes.get("src") for tag, attributes in page.found)
        for tag, attributes in page.found:
            assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
            assert "style" not in attributes
            assert (attributes.get("src") or "/dashboard/").startswith("/dashboard/")


def test_numbers_are_those_of_the_api_flushed_or_not(
    site: DashboardSite, services: Services
) -> None:
    count_events(services, *[now_event("page_view", f"u{n}", path="/") for n in range(7)])
    services.flush()
    count_events(services, *[now_event("page_view", f"u{n}", path="/") for n in range(5)])
    count_events(services, now_event("signup", "u1"))
    page = site.viewer.get("/dashboard?range=today").text
    assert '<p class="number" title="13">13</p>' in page
    assert (
        '<p class="number" title="12">12</p>' in site.viewer.get("/dashboard?type=page_view").text
    )
    filtered = site.viewer.get("/dashboard?type=page_view&property=path&value=/").text
    assert '<p class="number" title="12">12</p>' in filtered


def test_a_card_is_answered_alone(site: DashboardSite, services: Services) -> None:
    count_events(services, now_event("page_view", "u1", path="/"))
    answer = site.viewer.get("/dashboard?card=types")
    assert answer.text.strip().startswith('<section class="card" id="types"')
    assert site.viewer.get("/dashboard?card=surprise").status_code == 422


def test_a_wrong_url_says_what_is_wrong(site: DashboardSite) -> None:
    answer = site.viewer.get("/dashboard?zone=Berlin")
    assert answer.status_code == 422
    assert "Europe/Berlin" in answer.text


def test_without_events_the_page_says_how_to_send_one(site: DashboardSite) -> None:
    answer = site.viewer.get("/dashboard")
    assert "No events yet" in answer.text
    assert f"{site.origin}/analytics.js" in answer.text


def test_a_forged_host_does_not_become_the_snippet_of_another(site: DashboardSite) -> None:
    answer = site.viewer.get("/dashboard", headers={"Host": "evil.example"})
    assert answer.status_code == 303  # the cookie of another host is another one


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"])
@pytest.mark.parametrize("step", ["quarter_hour", "hour", "day"])
def test_all_types_add_up_to_the_series_of_each(services: Services, zone: str, step: Any) -> None:
    now = datetime.now(UTC)
    for round_ in range(3):
        events = [
            Event.create(name, "u", now=now, timestamp=now - timedelta(hours=7 * n + round_))
            for n in range(14)
            for name in ("page_view", "signup")
        ]
        count_events(services, *events)
        if round_ == 1:
            services.flush()
    from pipeline.reading.series.reader import SeriesRequest

    today = now.date()
    ranges = [(today - timedelta(days=5), today - timedelta(days=3)), (today - timedelta(2), today)]
    found = services.stats.read_all_types(ranges, step, zone)
    for at, days in enumerate(ranges):
        series = {
            name: services.stats.read_series(SeriesRequest(name, *days, step, zone))[0]
            for name in ("page_view", "signup")
        }
        both = zip(*(one.points for one in series.values()), strict=True)
        assert found.periods[at].points == [(a[0], a[1] + b[1]) for a, b in both]
        assert found.types[at] == {name: one.count for name, one in series.items() if one.count}


def test_days_without_an_event_lead_to_those_that_have_some(
    site: DashboardSite, services: Services
) -> None:
    now = datetime.now(UTC)
    of_2015 = [datetime(2015, 5, day, tzinfo=UTC) for day in (17, 20)]
    count_events(services, *[Event.create("page_view", "u1", {}, at, now=now) for at in of_2015])
    page = site.viewer.get("/dashboard").text
    assert "No event is of these days" in page
    [url] = [
        f"{tag['href']}" for name, tag in Tags(page).found if "from=2015" in (tag.get("href") or "")
    ]
    there = site.viewer.get(url).text
    assert "17\u201320 May 2015" in there
    assert "No event is of these days" not in there


def test_users_before_the_first_flush_are_unknown_and_not_none(
    site: DashboardSite, services: Services
) -> None:
    count_events(services, now_event("page_view", "u1"))
    page = site.viewer.get("/dashboard").text
    assert page.count("waiting for the first flush") == 3
    assert '<p class="number" title="\u2013">\u2013</p>' in page
    assert "from the <a" not in page  # where to flush is for those who may
    assert "The first flush brings them: by itself, or from" in site.operator.get("/dashboard").text
    services.flush()
    page = site.viewer.get("/dashboard").text
    assert "waiting for the first flush" not in page
    assert '<p class="number" title="\u2013">' not in page


def test_numbers_that_a_filter_on_a_value_leaves_whole_say_so(
    site: DashboardSite, services: Services
) -> None:
    count_events(
        services, now_event("page_view", "u1", path="/a"), now_event("page_view", "u2", path="/b")
    )
    services.flush()
    page = site.viewer.get("/dashboard?type=page_view&property=path&value=/a").text
    assert "Events of page_view with this path by day" in page
    assert page.count("any path") >= 3  # active users, new users, top users
    assert "any path" not in site.viewer.get("/dashboard?type=page_view").text
