"""The browser script while the collector is away, refuses, or its replies are lost."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPConnection

from playwright.sync_api import BrowserContext

from pipeline.services import Services
from tests.browser.site import Site, counts, give_key, wait_until_taken, waits
from tests.helpers.reply_cutter import ReplyCutter
from tests.helpers.support import eventually
from tests.helpers.web_process import WebProcess, wait_until_consumed


def test_what_was_counted_while_the_collector_was_down_arrives_after_a_reload(
    web: WebProcess, site: Site, context: BrowserContext, once_each: Callable[..., None]
) -> None:
    page = context.new_page()
    page.goto(site.origin)
    wait_until_taken(page)

    web.kill()
    page.click("button")
    page.evaluate("analytics.track('signup')")
    page.evaluate("history.pushState({}, '', '/two')")
    with page.expect_event("requestfailed"):
        pass
    assert waits(page) == ["add_to_cart", "page_view", "signup", "time_on_page"]
    web.start()
    page.reload()
    wait_until_taken(page)
    page.close()

    once_each(page_view=3, time_on_page=3, add_to_cart=1, signup=1)


def test_what_was_counted_while_the_collector_was_down_arrives_without_a_reload(
    web: WebProcess, site: Site, context: BrowserContext, once_each: Callable[..., None]
) -> None:
    page = context.new_page()
    page.goto(site.origin)
    wait_until_taken(page)

    web.kill()
    with page.expect_event("requestfailed"):
        page.click("button")
    web.start()
    wait_until_taken(page)
    page.close()

    once_each(page_view=1, time_on_page=1, add_to_cart=1)


def test_two_tabs_neither_lose_nor_double_what_waits(
    web: WebProcess, site: Site, context: BrowserContext, once_each: Callable[..., None]
) -> None:
    tabs = [context.new_page(), context.new_page()]
    for tab in tabs:
        tab.goto(site.origin)
        wait_until_taken(tab)

    web.kill()
    for tab in tabs:
        for _ in range(5):
            tab.click("button")
    assert waits(tabs[0]) == 10 * ["add_to_cart"]
    web.start()
    for tab in tabs:
        tab.reload()
    for tab in tabs:
        wait_until_taken(tab)
    for tab in tabs:
        tab.close()

    once_each(page_view=4, time_on_page=4, add_to_cart=10)


def test_an_event_whose_reply_was_lost_is_sent_again_and_counted_once(
    web: WebProcess,
    site: Site,
    context: BrowserContext,
    services: Services,
    once_each: Callable[..., None],
) -> None:
    way = ReplyCutter(web.port)
    give_key(site, services, f"http://127.0.0.1:{way.port}", [site.origin])
    page = context.new_page()
    page.goto(site.origin)
    wait_until_taken(page)

    way.lose_the_answer_to(b"add_to_cart")
    page.click("button")
    eventually(lambda: way.cut)
    wait_until_taken(page)
    page.close()

    once_each(page_view=1, time_on_page=1, add_to_cart=1)
    assert services.status()["books"]["duplicate"]
    way.close()


def test_an_event_that_came_too_often_is_sent_when_the_collector_says(
    web: WebProcess,
    site: Site,
    context: BrowserContext,
    services: Services,
) -> None:
    web.kill()
    web.start(ADDRESS_REQUESTS_PER_S="1")
    page = context.new_page()
    page.goto(site.origin)
    wait_until_taken(page)

    while ask(web) != 429:  # the limit is one of all that come from here
        pass
    with page.expect_response(lambda reply: reply.status == 429):
        page.click("button")
    assert waits(page) == ["add_to_cart"]
    wait_until_taken(page)

    wait_until_consumed(services)
    assert counts(services) == {"page_view": 1, "add_to_cart": 1}


def ask(web: WebProcess) -> int:
    """The status of an answer to an event without a key."""
    connection = HTTPConnection("127.0.0.1", web.port)
    try:
        connection.request("POST", "/v1/track", b"{}")
        return connection.getresponse().status
    finally:
        connection.close()


def test_what_the_collector_would_no_longer_know_is_dropped(
    web: WebProcess, site: Site, context: BrowserContext, once_each: Callable[..., None]
) -> None:
    page = context.new_page()
    page.goto(site.origin)
    wait_until_taken(page)

    web.kill()
    page.evaluate("analytics.track('signup', {n: 1}); analytics.track('signup', {n: 2})")
    page.close()
    page, html = context.new_page(), site.html
    site.html = "<title>A page without the script</title>"
    page.goto(site.origin)
    page.evaluate(
        """for (const [name, text] of Object.entries(localStorage)) {
            const event = JSON.parse(text);
            const hours = event.properties.n === 1 ? 21 : 19;
            event.timestamp = new Date(Date.now() - hours * 3600e3);
            localStorage.setItem(name, JSON.stringify(event));
        }"""
    )
    web.start()
    site.html = html
    page.reload()
    wait_until_taken(page)
    page.close()

    once_each(page_view=2, time_on_page=2, signup=1)


def test_of_what_waits_the_oldest_is_dropped_past_a_hundred(
    web: WebProcess, site: Site, context: BrowserContext
) -> None:
    page = context.new_page()
    page.goto(site.origin)
    wait_until_taken(page)

    web.kill()
    page.evaluate("for (let n = 0; n < 130; n++) analytics.track('signup', {n})")

    kept = page.evaluate("Object.values(localStorage).map((one) => JSON.parse(one).properties.n)")
    assert sorted(kept) == list(range(30, 130))


def test_an_event_that_is_refused_is_not_kept(
    web: WebProcess, site: Site, context: BrowserContext, services: Services
) -> None:
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(site.origin)
    wait_until_taken(page)

    page.evaluate("analytics.track('', {})")
    wait_until_taken(page)

    assert any("invalid_event" in text for text in said), said
    wait_until_consumed(services)
    assert counts(services) == {"page_view": 1}


def test_an_event_too_large_for_the_collector_is_not_sent(
    web: WebProcess, site: Site, context: BrowserContext, once_each: Callable[..., None]
) -> None:
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(site.origin)
    page.evaluate("analytics.track('signup', {text: 'x'.repeat(40000)})")
    page.evaluate("const own = {}; own.own = own; analytics.track('signup', own)")
    page.close()

    once_each(page_view=1, time_on_page=1)
    assert len([text for text in said if "too large or no JSON" in text]) == 2
