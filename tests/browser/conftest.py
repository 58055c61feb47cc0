"""Chromium, a site that it visits, and the collector with a worker behind it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Playwright, sync_playwright

from pipeline.services import Services
from tests.browser.site import PERSON, Site, counts, give_key, need_chromium
from tests.helpers.support import Workers, eventually
from tests.helpers.web_process import WebProcess, wait_until_consumed

COUNT_BY = {"page_view": ["path"], "add_to_cart": ["product_id"], "time_on_page": ["path"]}


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    # For this module only: it keeps an event loop running in the thread of the tests.
    need_chromium()
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    with playwright.chromium.launch(executable_path=need_chromium(), args=[PERSON]) as browser:
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context() as context:
        yield context


@pytest.fixture
def site() -> Iterator[Site]:
    with Site().serving() as site:
        yield site


@pytest.fixture
def services(make_services: Callable[..., Services]) -> Services:
    return make_services(count_by=COUNT_BY)


@pytest.fixture
def web(workers: Workers, site: Site, services: Services) -> WebProcess:
    """The collector and a worker, both running; the site has the script in its page."""
    workers.start("events", COUNT_BY=json.dumps(COUNT_BY))
    web = WebProcess(workers).start()
    give_key(site, services, web.origin, origins=[site.origin])
    return web


@pytest.fixture
def once_each(services: Services, context: BrowserContext) -> Callable[..., None]:
    """Checks that exactly so many events are counted, and no more when everything has arrived."""

    def check(**expected: int) -> None:
        with contextlib.suppress(AssertionError):  # which would not say what is counted instead
            eventually(lambda: counts(services) == expected, 20)
        assert counts(services) == expected
        context.close()
        wait_until_consumed(services)
        assert counts(services) == expected

    return check
