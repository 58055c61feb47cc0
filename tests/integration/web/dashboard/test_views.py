"""An event type, a user and raw events: the numbers of the API, and nothing but text."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import quote

import pytest

from pipeline.event.model import Event
from pipeline.event.pseudonyms import pseudonym
from pipeline.services import Services
from tests.helpers.support import count_events
from tests.integration.web.dashboard.conftest import DashboardSite, sign_in
from tests.integration.web.dashboard.test_pages import QUOTES, SCRIPT, Tags, now_event


@pytest.fixture
def counted(services: Services) -> None:
    """Events of two types and three users, most of them flushed and archived."""
    events = [now_event("page_view", f"u{n % 3}", path=f"/{n % 2}") for n in range(9)]
    count_events(services, *events, now_event("signup", "u1"))
    services.flush()
    services.archive_events()
    count_events(services, now_event("page_view", "u0", path="/0"))


def _facts(html: str) -> dict[str, str]:
    """The lists of names and numbers of a page."""
    found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html, re.DOTALL)
    return {unescape(name): re.sub(r"<.*?>", "", text).split()[0] for name, text in found}


# An event type


def test_a_type_has_its_number_users_and_values(site: DashboardSite, counted: None) -> None:
    page = site.viewer.get("/dashboard/type?type=page_view&range=today").text
    assert '<p class="number" title="10">10</p>' in page
    facts = _facts(page)
    assert (facts["Users"], facts["New"], facts["Returning"]) == ("3", "3", "0")
    assert "Values of path" in page
    assert "property=path&amp;value=%2F0" in page
    filtered = site.viewer.get(
        "/dashboard/type?type=page_view&property=path&value=/0&range=today"
    ).text
    assert '<p class="number" title="6">6</p>' in filtered


def test_without_a_type_all_are_listed(site: DashboardSite, counted: None) -> None:
    page = site.viewer.get("/dashboard/type").text
    assert "/dashboard/type?type=page_view" in page
    assert "2 in all" in page


def test_sums_sizes_and_combinations_are_shown(
    make_services: Callable[..., Services], make_site: Callable[[Services], DashboardSite]
) -> None:
    services = make_services(
        count_by={"sale": ["plan", "plan+country"]}, sum={"sale": {"amount": 2}}
    )
    sales = [
        now_event("sale", f"u{n}", plan="pro", country="DE", amount=n / 4) for n in range(1, 101)
    ]
    count_events(services, *sales, now_event("sale", "u", plan="pro", country="FR", amount="?"))
    services.flush()
    page = make_site(services).viewer.get("/dashboard/type?type=sale&range=today").text
    facts = _facts(page)
    assert (facts["Sum"], facts["Average"], facts["Numbers"]) == ("1,262.5", "12.62", "100")
    assert facts["Values that are no numbers"] == "1"
    assert abs(float(facts["50th percentile"]) - 12.5) < 0.125
    assert "Values of plan + country" in page
    assert "pro+DE" in page
    assert "Sizes of amount" in page


# A user


def test_a_user_has_the_counts_of_the_api(site: DashboardSite, counted: None) -> None:
    page = site.viewer.get("/dashboard/user?user=u0&range=today").text
    answer = site.viewer.get(
        "/api/users/u0", headers={"Authorization": f"Bearer {site.token}"}
    ).json()
    assert _facts(page)["Events"] == f"{answer['count']}" == "4"
    assert page.count("<li><time") == 3  # one is not archived yet


def test_an_unknown_user_has_no_events(site: DashboardSite, counted: None) -> None:
    found = site.viewer.get("/dashboard/user?user=nobody-is-called-so").text
    assert "No events of this user" in found
    assert site.viewer.get("/dashboard/user?user=" + "x" * 10_000).status_code == 422


def test_with_a_secret_both_forms_of_the_id_lead_to_the_user(
    make_services: Callable[..., Services], make_site: Callable[[Services], DashboardSite]
) -> None:
    secret = "a secret that is long enough for pseudonyms"
    services = make_services(user_id_secret=secret)
    stored = pseudonym(secret, "ann")
    count_events(services, now_event("a", stored), now_event("a", stored))
    services.archive_events()
    site = make_site(services)
    for user in ("ann", stored):
        page = site.viewer.get(f"/dashboard/user?user={user}").text
        assert _facts(page)["Events"] == "2"
        assert page.count("<li><time") == 2
    assert "2 archived events" in _forget(site, "operator", user=stored, typed=stored)
    assert "No events of this user" in site.viewer.get("/dashboard/user?user=ann").text


def _forget(site: DashboardSite, browser: str, **form: str) -> str:
    client = getattr(site, browser)
    answer = client.post(
        "/dashboard/user/forget",
        data={"user": "u1", "back": "/dashboard/user?user=u1", **form},
        headers={"Origin": site.origin},
        follow_redirects=True,
    )
    return str(unescape(answer.text))


def test_forgetting_needs_the_right(site: DashboardSite, counted: None) -> None:
    assert "Forget this user" not in site.viewer.get("/dashboard/user?user=u1").text
    assert "--allow-forget" in _forget(site, "viewer", typed="u1")
    assert site.viewer.get("/dashboard/user?user=u1").text.count("<li><time") == 4


def test_forgetting_needs_the_id_typed_again(site: DashboardSite, counted: None) -> None:
    assert "Nothing was removed" in _forget(site, "operator", typed="u2")
    assert "Nothing was removed" in _forget(site, "operator", typed="", user="")
    assert site.viewer.get("/dashboard/user?user=u1").text.count("<li><time") == 4


def test_forgetting_says_what_was_removed_and_totals_stay(
    site: DashboardSite, counted: None
) -> None:
    assert "Forget this user" in site.operator.get("/dashboard/user?user=u1").text
    page = _forget(site, "operator", typed="u1")
    assert "4 archived events name the user no longer" in page
    assert "No events of this user" in page
    total = site.viewer.get("/dashboard/type?type=page_view&range=today").text
    assert '<p class="number" title="10">10</p>' in total


def test_forms_of_other_sites_forget_nothing(site: DashboardSite, counted: None) -> None:
    for headers in ({}, {"Origin": "https://evil.example"}):
        answer = site.operator.post(
            "/dashboard/user/forget", data={"user": "u1", "typed": "u1"}, headers=headers
        )
        assert answer.status_code == 403
    assert site.operator.get("/dashboard/user/forget").status_code in (404, 405)
    assert site.viewer.get("/dashboard/user?user=u1").text.count("<li><time") == 4


def test_lists_of_users_and_the_filter_lead_to_the_pages(
    site: DashboardSite, counted: None
) -> None:
    paths = ("/dashboard?type=page_view", "/dashboard/details?of=users&type=page_view")
    for path in paths:
        page = site.viewer.get(path).text
        assert 'href="/dashboard/type?type=page_view"' in page
        assert 'href="/dashboard/user?user=u0"' in page


# Explore


def test_events_are_filtered_by_type_user_and_condition(site: DashboardSite, counted: None) -> None:
    def count(query: str) -> int:
        return site.viewer.get(f"/dashboard/explore?{query}").text.count("<li><time")

    assert count("") == 10
    assert count("type=page_view") == 9
    assert count("user=u1") == 4
    assert count("where=" + quote('path = "/0"')) == 5
    assert count("type=page_view&user=u0&where=" + quote('path = "/0" and not x exists')) == 2
    assert count("range=yesterday") == 0


def test_pages_go_on_behind_the_last_event(site: DashboardSite, services: Services) -> None:
    count_events(services, *[now_event("many", f"user-{n:03}") for n in range(120)])
    services.archive_events()
    url, seen = "/dashboard/explore?type=many", []
    while url:
        page = site.viewer.get(url).text
        seen += re.findall(r"user=(user-\d+)", page)
        older = re.search(r'href="([^"]*cursor=[^"]*)">Older', page)
        url = unescape(older[1]) if older else ""
    assert len(seen) == len(set(seen)) == 120


def test_a_range_is_of_days_of_the_zone(site: DashboardSite, services: Services) -> None:
    now = datetime.now(UTC)
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) - timedelta(days=3)
    at = midnight - timedelta(hours=5, minutes=30) + timedelta(minutes=1)  # in Kolkata, the day
    count_events(services, Event.create("late", "u", now=now, timestamp=at))
    services.archive_events()
    day = f"{midnight:%Y-%m-%d}"
    url = f"/dashboard/explore?from={day}&to={day}"
    assert site.viewer.get(url).text.count("<li><time") == 0
    page = site.viewer.get(f"{url}&zone=Asia/Kolkata").text
    assert page.count("<li><time") == 1
    begin = midnight - timedelta(hours=5, minutes=30)
    assert f"--from {begin:%Y-%m-%dT%H:%M:%SZ}" in page


def test_the_command_exports_what_the_page_shows(site: DashboardSite) -> None:
    where = 'path = "/it\'s" and n > 1'
    query = f"type=-x&user=a%20b&range=today&where={quote(where)}"
    page = site.viewer.get(f"/dashboard/explore?{query}").text
    found = re.search(r"<code>(analytics export.*?)</code>", page)
    assert found
    words = shlex.split(unescape(found[1]))
    today = f"{datetime.now(UTC).date()}"
    assert words == [
        *("analytics", "export", "events.ndjson.gz", "--type=-x", "--user", "a b"),
        *("--from", today, "--to", today, "--where", where),
    ]


def test_csv_has_the_same_events_and_runs_no_formula(
    site: DashboardSite, services: Services, counted: None
) -> None:
    count_events(services, now_event("=cmd()", "@SUM(1)", path="=1+1"))
    services.archive_events()
    answer = site.viewer.get("/dashboard/explore.csv?type=" + quote("=cmd()"))
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "attachment" in answer.headers["content-disposition"]
    names, row = csv.reader(answer.text.splitlines())
    assert names == ["event_type", "user_id", "properties", "timestamp", "event_id"]
    assert row[:2] == ["'=cmd()", "'@SUM(1)"]
    everything = list(csv.reader(site.viewer.get("/dashboard/explore.csv").text.splitlines()))
    assert len(everything) == 13  # the one that waited is archived by now
    assert site.stranger.get("/dashboard/explore.csv").status_code == 303


# All of them


WRONG = [
    "/dashboard/explore?where=plan%20%3D%20pro",
    "/dashboard/explore?cursor=zzz",
    "/dashboard/explore?user=" + "x" * 600,
    "/dashboard/explore?where=" + "x" * 5_000,
    "/dashboard/explore.csv?where=plan%20%3D%20pro",
    "/dashboard/explore.csv?colour=red",
    "/dashboard/user?user=%00",
    "/dashboard/type?type=x&zone=Berlin",
    "/dashboard/type?type=x&card=surprise",
    "/dashboard/live?zone=Berlin",
    "/dashboard/live?user=u1",
    "/dashboard/live/stream?zone=Berlin",
]


def test_wrong_parameters_are_named(site: DashboardSite) -> None:
    for path in WRONG:
        assert site.viewer.get(path).status_code == 422, path


def test_hostile_names_and_values_are_text(site: DashboardSite, services: Services) -> None:
    count_events(
        services,
        now_event(SCRIPT, QUOTES, **{QUOTES: SCRIPT}),
        now_event("page_view", SCRIPT, path=QUOTES, long="<b>" * 500),
    )
    services.flush()
    services.archive_events()
    for path in (
        "/dashboard/type",
        f"/dashboard/type?type={quote(SCRIPT)}",
        "/dashboard/type?type=page_view",
        f"/dashboard/user?user={quote(QUOTES)}",
        f"/dashboard/user?user={quote(SCRIPT)}",
        "/dashboard/explore",
        f"/dashboard/explore?type={quote(SCRIPT)}&user={quote(QUOTES)}",
        "/dashboard/explore?where=" + quote(f"x = '{SCRIPT}'"),
        "/dashboard/live",
    ):
        answer = site.operator.get(path)
        assert answer.status_code == 200, path
        for tag, attributes in Tags(answer.text).found:
            assert tag not in ("b",)
            assert tag != "script" or (attributes["src"] or "").startswith("/dashboard/assets/")
            assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
            assert "style" not in attributes
            assert (attributes.get("src") or "/dashboard/").startswith("/dashboard/")


def test_strangers_see_none_of_them(site: DashboardSite) -> None:
    for path in ("type?type=x", "user?user=u", "explore", "live", "live/stream"):
        answer = site.stranger.get(f"/dashboard/{path}")
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/dashboard/sign-in")
    assert sign_in(site.stranger, site.token).status_code == 303
