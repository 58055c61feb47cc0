"""Client libraries for browsers, unchanged, in pages of another origin than the collector's: every
event counts once, with its user, its properties and its time."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from pipeline.access.key_store import AccessKeyStore
from pipeline.event.model import Event
from pipeline.services import Services
from tests.browser.site import PERSON, Site, need_chromium
from tests.clients.libraries import HERE, install_for_node
from tests.clients.sent import LONG_AGO, OUTAGE_S, PROPERTIES, Sent, read_events
from tests.helpers.reply_cutter import ReplyCutter
from tests.helpers.support import Workers, eventually
from tests.helpers.web_process import WebProcess, lately, wait_until_consumed

ORDERS, AT_ONCE = 40, 10
EVERY_MS = 250
COUNT_BY = json.dumps({"order_paid": ["library"]})
# No page asks for anything from elsewhere.
AT_HOME = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"

# The page of each library, with how it is to send.
SENDING_AGAIN = {
    "analytics-next": "segment.html?",
    "analytics-next-batching": "segment.html?batching",
    "rudder-analytics-js": "rudder.html?",
    "rudder-analytics-js-batching": "rudder.html?batching",
}
SENDING_ONCE = {
    "rudder-analytics-js-beacon": "rudder.html?beacon",
    "plausible": "plausible.html?",
    "plausible-tracker": "plausible_tracker.html?",
}
SEND_AT_ONCE = """([library, orders, more]) => Promise.all(
    [...Array(orders).keys()].map((n) => send({library, n, ...more}))
)"""
SEND = """([library, orders, everyMs, longAgo, more]) => {
    start();
    for (let n = 0; n < orders; n++) setTimeout(() => {
        const timestamp = n % 5 ? null : new Date(longAgo + n * 60000);
        send({library, n, at: Date.now() / 1000, ...more}, timestamp);
    }, n * everyMs);
}"""


@pytest.fixture
def browser() -> Iterator[Browser]:
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=need_chromium(), args=[PERSON, AT_HOME]
        ) as browser,
    ):
        yield browser


@pytest.fixture
def site() -> Iterator[Site]:
    with Site().serving() as site:
        site.directories["/lib/"] = install_for_node() / "node_modules"
        site.directories["/pages/"] = HERE / "browser"
        yield site


@pytest.fixture
def web(workers: Workers) -> WebProcess:
    workers.start("events", COUNT_BY=COUNT_BY)
    return WebProcess(workers).start()


@pytest.fixture
def key(services: Services, site: Site) -> str:
    """A page's key."""
    return AccessKeyStore(services.redis, services.keys).create("write", "shop", [site.origin])[1]


def load(browser: Browser, page: str, **query: str) -> Page:
    """A page, opened by a visitor of its own."""
    loaded = browser.new_context().new_page()
    loaded.goto(f"{page}&{urlencode(query)}")
    return loaded


@pytest.mark.timeout(240)  # the libraries are installed when they are first used
def test_every_event_of_libraries_that_send_again_counts_once_through_an_outage(
    web: WebProcess,
    key: str,
    services: Services,
    site: Site,
    browser: Browser,
    subtests: pytest.Subtests,
) -> None:
    others = {"identify": 1, "page_view": 1, "group": 1}
    every = [Sent(library, ORDERS, 1, others) for library in SENDING_AGAIN]
    ways, pages = [ReplyCutter(web.port) for _ in every], []
    for sent, way in zip(every, ways, strict=True):
        way.lose_the_answer_to(b"POST /")
        page, collector = SENDING_AGAIN[sent.library], f"http://127.0.0.1:{way.port}"
        query = {"name": sent.library, "collector": collector, "key": key}
        pages.append(load(browser, f"{site.origin}/pages/{page}", **query))
        long_ago_ms = LONG_AGO.timestamp() * 1000
        pages[-1].evaluate(SEND, [sent.library, ORDERS, EVERY_MS, long_ago_ms, PROPERTIES])

    eventually(lambda: all(way.cut for way in ways))
    eventually(lambda: all(sent.count(services) for sent in every))
    web.kill()
    time.sleep(OUTAGE_S)
    web.start()

    for sent in every:
        with subtests.test("arrives", library=sent.library):
            eventually(lambda: sent.count(services) == ORDERS)  # noqa: B023
    for page, way in zip(pages, ways, strict=True):
        page.context.close()
        way.close()
    wait_until_consumed(services)
    found = read_events(services)
    for sent in every:
        with subtests.test("is counted", library=sent.library):
            sent.check_counts(services)
        with subtests.test("is logged", library=sent.library):
            sent.check_events(found[sent.library])
    assert services.status()["books"]["duplicate"]


def test_every_event_of_libraries_that_send_once_is_counted(
    web: WebProcess,
    key: str,
    services: Services,
    site: Site,
    browser: Browser,
    subtests: pytest.Subtests,
) -> None:
    for library, page in SENDING_ONCE.items():
        query = {"name": library, "collector": web.origin, "key": key}
        visited = load(browser, f"{site.origin}/pages/{page}", **query)
        visited.evaluate(SEND_AT_ONCE, [library, AT_ONCE, PROPERTIES])
        visited.close()
        visited.context.close()

    def count(library: str) -> int:
        return services.stats.property_count("order_paid", "library", library, *lately())

    eventually(lambda: all(count(library) >= AT_ONCE for library in SENDING_ONCE))
    eventually(lambda: services.stats.count("time_on_page", *lately()))
    wait_until_consumed(services)
    events = [event for found in read_events(services).values() for event in found]
    for library, page in SENDING_ONCE.items():
        with subtests.test("is counted", library=library):
            check_at_once(library, f"/pages/{page.partition('?')[0]}", events)


def check_at_once(library: str, path: str, events: list[Event]) -> None:
    """Check that the page of this path was viewed once, and that each order is there once; and how
    long it was viewed, where the library says so."""
    found = [event for event in events if (event.properties or {})["path"] == path]
    views = {"page_view": 1} | ({"time_on_page": 1} if library == "plausible" else {})
    assert Counter(one.event_type for one in found) == {"order_paid": AT_ONCE, **views}
    orders = [dict(one.properties or {}) for one in found if one.event_type == "order_paid"]
    assert sorted(order["n"] for order in orders) == list(range(AT_ONCE))
    for order in orders:
        assert (PROPERTIES | {"library": library}).items() <= order.items()
