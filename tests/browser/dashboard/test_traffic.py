"""The dashboard in a browser while events come and are flushed: every number is that of the API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Page

from pipeline.event.model import Event
from pipeline.services import Services
from tests.helpers.support import count_events
from tests.helpers.web_process import WebProcess, lately

OpenPage = Callable[..., Page]
OVERVIEW = "/dashboard?range=7d&measure=sum:purchase:amount"
TYPES = ("page_view", "purchase")


def _make(number: int) -> list[Event]:
    now = datetime.now(UTC)
    return [
        Event.create("page_view", f"u{number % 40}", {"path": f"/{number % 3}"}, now=now),
        Event.create("purchase", f"u{number % 9}", {"plan": "pro", "amount": number}, now=now),
    ]


@contextmanager
def _traffic(services: Services) -> Iterator[None]:
    """Events all the time, and a flush after every tenth batch."""
    over = threading.Event()
    failed: list[Exception] = []

    def run() -> None:
        number = 0
        try:
            while not over.wait(0.02):
                number += 1
                count_events(services, *_make(number))
                if number % 10 == 0:
                    services.flush()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        assert failed == []


@pytest.fixture
def ask(web: WebProcess, token: str) -> Iterator[Callable[..., Any]]:
    """What the API says of yesterday to tomorrow: `ask("stats/count", event_type="purchase")`."""
    first, last = lately()
    days = {"from": f"{first}", "to": f"{last}"}
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{web.origin}/api", headers=headers, timeout=30) as client:

        def read(path: str, **query: str) -> Any:
            answer = client.get(path, params=query | (days if path.startswith("stats/") else {}))
            assert answer.status_code == 200, answer.text
            return answer.json()

        yield read


def _read_api(ask: Callable[..., Any]) -> dict[str, Decimal]:
    counts = {name: ask("stats/count", event_type=name)["count"] for name in TYPES}
    total = ask("stats/sum", event_type="purchase", property="amount")["sum"]
    return {name: Decimal(n) for name, n in counts.items()} | {"sum": Decimal(total or 0)}


def _read_page(page: Page) -> dict[str, Decimal]:
    found = {name: _read_rank(page, "types", name) for name in TYPES}
    return found | {"sum": _read_title(page, "#tiles .tile:has-text('Sum of amount') .number")}


def _read_title(page: Page, selector: str) -> Decimal:
    return Decimal((page.locator(selector).first.get_attribute("title") or "").replace(",", ""))


def _read_rank(page: Page, card: str, name: str) -> Decimal:
    row = page.locator(f"#{card} .ranks li", has=page.get_by_text(name, exact=True))
    text = row.locator(".number").evaluate("(cell) => cell.firstChild.data")
    return Decimal(str(text).replace(",", ""))


def test_numbers_are_those_of_the_api_while_events_come_and_are_flushed(
    open_page: OpenPage, services: Services, ask: Callable[..., Any]
) -> None:
    count_events(services, *_make(0))
    page = open_page(OVERVIEW)
    with _traffic(services):
        for refresh in (False, True, False, True):
            # A page is read between two answers of the API, so its numbers lie between theirs.
            before = _read_api(ask)
            if refresh:
                for card in ("types", "tiles"):
                    with page.expect_response(lambda one, card=card: f"card={card}" in one.url):
                        page.click(f"#{card} a.refresh")
                page.wait_for_load_state("networkidle")
            else:
                page.reload()
            shown, after = _read_page(page), _read_api(ask)
            for name, number in shown.items():
                assert before[name] <= number <= after[name], (name, before, shown, after)
    services.flush()
    page.reload()
    assert _read_page(page) == _read_api(ask)
    assert after["page_view"] > 20


def test_every_page_has_the_numbers_of_the_api(
    open_page: OpenPage, services: Services, ask: Callable[..., Any]
) -> None:
    for number in range(30):
        count_events(services, *_make(number))
    services.flush()
    services.archive_events()
    count_events(services, *_make(30))
    page = open_page(OVERVIEW)
    origin = page.url.partition("/dashboard")[0]
    top = ask("stats/top", event_type="page_view", of="path")
    for row in top["top"]:
        assert _read_rank(page, "values", row["value"]) == row["count"]

    page.goto(f"{origin}/dashboard/type?type=purchase&range=7d")
    assert _read_title(page, "#tiles .number") == ask("stats/count", event_type="purchase")["count"]
    page.goto(f"{origin}/dashboard/user?user=u3&range=7d")
    assert Decimal(page.locator("#days dd >> nth=0").inner_text()) == ask("users/u3")["count"]
    page.goto(f"{origin}/dashboard/live")
    assert (
        _read_rank(page, "live", "page_view") == ask("stats/count", event_type="page_view")["count"]
    )
    page.goto(f"{origin}/dashboard/pipeline")
    stages = {one["name"]: one["number"] for one in ask("status")["stages"]}
    for name in ("counted", "pending", "stored"):
        [shown] = page.locator(f"ol li:has(h3:text-is('{name.title()}')) .number").all()
        assert (shown.get_attribute("title") or "").startswith(f"{stages[name]} "), name


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/dashboard/type?type=purchase&property=plan&value=pro", "plan is pro"),
        ("/dashboard/explore?type=purchase&where=amount%20%3E%203", "purchase"),
        ("/dashboard/funnels?step1=page_view&step2=purchase&window=1d", "Users by step"),
        ("/dashboard/retention?start=page_view&every=week", "Who came back"),
    ],
)
def test_what_is_asked_and_the_zone_survive_a_reload(
    open_page: OpenPage, events: None, path: str, shown: str
) -> None:
    page = open_page(f"{path}&range=90d")
    page.click("summary:has-text('UTC')")
    page.fill("[name=zone]", "Asia/Tokyo")
    page.click("button:has-text('Use')")
    page.wait_for_url("**zone=Asia%2FTokyo**")
    for _ in range(2):
        main = page.locator("main")
        assert shown in main.inner_text()
        assert page.locator("summary:has-text('Asia/Tokyo')").count() == 1
        asked = parse_qs(urlsplit(page.url).query)
        for name, values in parse_qs(urlsplit(f"{path}&range=90d").query).items():
            assert asked[name] == values, name
        before = main.inner_text()
        page.reload()
        assert page.locator("main").inner_text() == before
