"""Page views of the browser script, with all that can be added to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext

from pipeline.contract import PAGE_PROPERTIES
from pipeline.services import Services
from tests.browser.site import Site, give_key, wait_until_taken
from tests.helpers.support import Workers, execute
from tests.helpers.web_process import WebProcess, wait_until_consumed

COUNT_BY = {"page_view": ["entry_page", "utm_source", "referrer_host", "browser", "device"]}


@pytest.fixture
def services(make_services: Callable[..., Services]) -> Services:
    return make_services(count_by=COUNT_BY)


@pytest.fixture
def web(workers: Workers, site: Site, services: Services) -> WebProcess:
    workers.start("events", COUNT_BY=json.dumps(COUNT_BY))
    web = WebProcess(workers).start(SESSIONS="1", PAGE_PROPERTIES=json.dumps(PAGE_PROPERTIES))
    give_key(site, services, web.origin, origins=[site.origin])
    return web


def test_a_visit_is_one_session_with_its_campaign_referrer_and_entry(
    web: WebProcess, site: Site, context: BrowserContext, services: Services
) -> None:
    page = context.new_page()
    query = "?utm_source=news&utm_medium=&utm_campaign=May%20sale&token=secret&utm_source=late"
    page.goto(f"{site.origin}/landing{query}", referer="https://www.search.example/?q=private")
    page.evaluate("history.pushState({}, '', '/two')")
    page.click("button")
    page.goto(f"{site.origin}/three")
    wait_until_taken(page)
    wait_until_consumed(services)
    services.archive_events()

    archived = _archived(services)

    first, second, third = (one for kind, one in archived if kind == "page_view")
    assert first["utm_source"] == "news"
    assert first["utm_campaign"] == "May sale"
    assert first["referrer"] == "https://www.search.example/"
    assert first["referrer_host"] == "search.example"
    assert first["entry_page"] == "/landing"
    assert (first["browser"], first["system"], first["device"]) == ("Chrome", "Linux", "desktop")
    for later in (second, third):
        assert not {"utm_source", "entry_page", "referrer_host"} & later.keys()
    assert len({one["session_id"] for _, one in archived}) == 1
    assert {"time_on_page", "add_to_cart"} <= {kind for kind, _ in archived}
    seconds = [one["seconds"] for kind, one in archived if kind == "time_on_page"]
    assert all(isinstance(one, int) for one in seconds)
    assert "secret" not in json.dumps(archived)
    assert "private" not in json.dumps(archived)


def test_without_the_settings_the_campaign_is_dropped(
    workers: Workers, site: Site, context: BrowserContext, services: Services
) -> None:
    workers.start("events")
    web = WebProcess(workers).start()
    give_key(site, services, web.origin, origins=[site.origin])
    page = context.new_page()
    page.goto(f"{site.origin}/a?utm_source=news")
    wait_until_taken(page)
    wait_until_consumed(services)
    services.archive_events()

    assert _archived(services) == [("page_view", {"path": "/a"})]


def _archived(services: Services) -> list[tuple[str, dict[str, Any]]]:
    """Type and properties of the archived events, in the order in which they happened."""
    found = execute(services, "SELECT event_type, properties FROM events ORDER BY timestamp")
    return [(kind, properties) for kind, properties in found]
