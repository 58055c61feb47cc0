"""Funnels and retention on the dashboard: numbers are those of the API, long ones are reports."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from pipeline.services import Services
from pipeline.web.api import archive_questions
from tests.helpers.journeys.archive import put
from tests.helpers.support import Workers, eventually
from tests.integration.web.dashboard.conftest import DashboardSite

NOW = datetime.now(UTC).replace(hour=12, minute=0) - timedelta(days=2)
FUNNEL = "/dashboard/funnels?step1=view&step2=buy&where2=plan%3D%22pro%22&window=1h"
RETENTION = "/dashboard/retention?start=view&return=buy"


@pytest.fixture
def archived(services: Services) -> None:
    at = NOW + timedelta(seconds=5)
    put(
        services,
        [
            *(("view", NOW, f"u{n}", f'{{"from":"<b>{n % 2}"}}') for n in range(4)),
            *(("buy", at, f"u{n}", '{"plan":"pro"}') for n in range(3)),
        ],
    )


def ask_api(site: DashboardSite, path: str) -> dict[str, object]:
    headers = {"Authorization": f"Bearer {site.token}"}
    found: dict[str, object] = httpx.get(f"{site.origin}{path}", headers=headers).json()
    return found


def test_a_funnel_has_the_numbers_of_the_api(site: DashboardSite, archived: None) -> None:
    page = site.viewer.get(FUNNEL + "&property=from").text
    found = ask_api(site, '/api/stats/funnel?step=view&step=buy[plan="pro"]&window=1h&by=from')
    assert "Of 4 users who did view, 3 (75%) came to buy[plan=&#34;pro&#34;]" in page
    assert [step["users"] for step in found["steps"]] == [4, 3]  # type: ignore[attr-defined,index]
    assert "1 lost (25%)<span>median 5 s</span>" in page
    assert page.count("<h3>") == 2
    assert "&lt;b&gt;1" in page
    assert "<b>" not in page
    table = site.viewer.get(FUNNEL + "&property=from&view=table").text
    assert '<td class="number">2 <small class="muted">100%</small></td>' in table
    assert "<h3>" not in table


def test_the_form_keeps_what_was_filled_in(site: DashboardSite, archived: None) -> None:
    page = site.viewer.get(FUNNEL + "&range=90d&order=any").text
    assert 'value="plan=&#34;pro&#34;"' in page
    assert '<input type="hidden" name="range" value="90d">' in page
    assert '<option value="any" selected>' in page
    # The range menu leads to the same funnel, and a step can be taken away.
    link = re.search(r'href="([^"]*range=7d[^"]*)"', page)
    assert link is not None
    assert "step2=buy" in link[1]
    assert 'href="/dashboard/funnels?range=90d&amp;step1=buy' in page


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("step1=a&step2=b&where2=x%3D", "step 2: character"),
        ("step1=a&step2=b&window=99d", "window:"),
        ("where1=a", "where1:"),
        ("order=x", "order:"),
        ("step9=x", "step9:"),
    ],
)
def test_a_wrong_funnel_says_what_is_wrong(site: DashboardSite, query: str, said: str) -> None:
    answer = site.viewer.get(f"/dashboard/funnels?{query}")
    assert answer.status_code == 422
    assert said in answer.text


def test_retention_has_the_numbers_of_the_api(site: DashboardSite, archived: None) -> None:
    page = site.viewer.get(f"{RETENTION}&every=day&unit=users&range=7d").text
    cells = re.findall(r'<td class="number heat-g">3</td>', page)
    assert len(cells) == 2  # of the cohort, and of all
    day = f"{NOW.date()}"
    found = ask_api(site, f"/api/stats/retention?start=view&return=buy&by=day&from={day}&to={day}")
    cohorts = found["cohorts"]
    assert cohorts == [{"start": day, "users": 4, "returned": [3]}]
    assert '<td class="number heat-g">75%</td>' in site.viewer.get(f"{RETENTION}&every=day").text
    of_archive = f"{RETENTION}&return_where=plan%3D%22pro%22&every=day"
    assert '<td class="number heat-g">75%</td>' in site.viewer.get(of_archive).text


def test_too_many_periods_are_refused_with_what_to_do(site: DashboardSite) -> None:
    answer = site.viewer.get(f"{RETENTION}&every=day&range=90d")
    assert answer.status_code == 422
    assert "choose fewer days, or a longer period" in answer.text
    assert site.viewer.get(f"{RETENTION}&every=hour").status_code == 422


def test_a_long_funnel_is_a_report_that_the_page_follows(
    site: DashboardSite, archived: None, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_questions, "MOST_ROWS_AT_ONCE", -1)

    page = site.viewer.get(FUNNEL).text

    assert "The report waits for a worker" in page
    polled = re.search(r'hx-get="([^"]*)" hx-trigger="ask" data-ask', page)
    reloaded = re.search(r'<noscript><meta http-equiv="refresh" content="2; url=([^"]*)"', page)
    assert polled is not None
    assert reloaded is not None
    url = polled[1].replace("&amp;", "&")
    assert "hx-get" in site.viewer.get(url).text
    workers.start("flush")
    done = eventually(lambda: (text := site.viewer.get(url).text).find("hx-trigger") < 0 and text)
    assert "Of 4 users who did view" in done
    assert "Of 4 users who did view" in site.viewer.get(reloaded[1].replace("&amp;", "&")).text


def test_a_report_that_failed_is_asked_for_by_hand_only(
    site: DashboardSite, services: Services, archived: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_questions, "MOST_ROWS_AT_ONCE", -1)
    monkeypatch.setattr(archive_questions, "ask_for_report", lambda *_: None)
    page = site.viewer.get(FUNNEL).text
    report = re.search(r"report=([0-9a-f-]{36})", page)
    assert report is not None
    from uuid import UUID

    services.reports._end(UUID(report[1]), "failed", reason="ask about fewer days")

    followed = site.viewer.get(f"{FUNNEL}&report={report[1]}").text

    assert "The report failed: ask about fewer days" in followed
    assert "hx-trigger" not in followed
    assert "The report waits" in site.viewer.get(FUNNEL).text
