import csv
import io

import httpx
import pytest

from pipeline.services import Services
from tests.helpers.support import count_events
from tests.integration.web.dashboard.conftest import DashboardSite
from tests.integration.web.dashboard.test_pages import now_event

FORMULA = "=HYPERLINK(A1)"


@pytest.fixture
def events(services: Services) -> None:
    names = [f"type_{n:03}" for n in range(60)]
    count_events(services, *[now_event(name) for n, name in enumerate(names) for _ in range(n + 1)])
    paths = ["/", "/Pricing", FORMULA]
    count_events(
        services,
        *[now_event("page_view", f"u{n % 3}", path=paths[n % 3]) for n in range(12)],
        now_event(FORMULA),
    )
    services.flush()


def rows(answer: httpx.Response) -> list[list[str]]:
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.reader(io.StringIO(answer.text)))


def test_rows_come_a_page_at_a_time(site: DashboardSite, events: None) -> None:
    first = site.viewer.get("/dashboard/details?range=today").text
    assert "Page 1 of 2, 62 rows" in first
    assert ">type_059<" in first
    assert ">type_003<" not in first
    assert "/dashboard/details?range=today&amp;page=2" in first
    assert ">type_003<" in site.viewer.get("/dashboard/details?range=today&page=2").text


def test_rows_are_searched_and_sorted(site: DashboardSite, events: None) -> None:
    page = site.viewer.get("/dashboard/details?range=today&search=TYPE_01&sort=-name").text
    assert page.index(">type_019<") < page.index(">type_010<")
    assert ">type_020<" not in page
    assert 'aria-sort="descending"' in page
    assert "Nothing is called like that" in site.viewer.get("/dashboard/details?search=zzz").text


def test_the_table_can_be_taken_away_and_runs_nothing(site: DashboardSite, events: None) -> None:
    table = rows(site.viewer.get("/dashboard/details.csv?range=today&search=hyper"))
    assert table == [["event_type", "count", "before"], [f"'{FORMULA}", "1", "0"]]
    url = "/dashboard/details.csv?range=today&type=page_view&of="
    values = rows(site.viewer.get(f"{url}values&property=path"))
    assert values == [["value", "count"], ["/", "4"], ["/Pricing", "4"], [f"'{FORMULA}", "4"]]
    assert rows(site.viewer.get(f"{url}users"))[1:] == [["u0", "4"], ["u1", "4"], ["u2", "4"]]
    assert site.stranger.get("/dashboard/details.csv").status_code == 303


def test_what_rows_need_is_said(site: DashboardSite) -> None:
    assert site.viewer.get("/dashboard/details?of=values").status_code == 422
    assert site.viewer.get("/dashboard/details?of=surprise").status_code == 422
