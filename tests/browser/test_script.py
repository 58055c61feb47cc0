"""The browser script on a page of another origin: from what a visitor does to counts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, Playwright

from pipeline.services import Services
from tests.browser.site import PERSON, Site, counts, give_key, need_chromium, wait_until_taken
from tests.helpers.support import eventually
from tests.helpers.web_process import WebProcess, lately, wait_until_consumed


def test_views_routes_clicks_and_time_are_counted_once_each(
    web: WebProcess,
    site: Site,
    context: BrowserContext,
    services: Services,
    once_each: Callable[..., None],
) -> None:
    page = context.new_page()
    page.goto(f"{site.origin}/one")
    page.click("button span")
    page.evaluate("history.pushState({}, '', '/two')")
    page.evaluate("history.replaceState({}, '', '/two?sort=price')")  # the same page
    page.evaluate("location.hash = '#/three'")
    page.go_back()
    page.evaluate("analytics.track('signup', {plan: 'pro'})")
    page.click("a")
    page.wait_for_url("**/next")
    page.close()

    once_each(page_view=5, time_on_page=5, add_to_cart=1, signup=1)
    for event_type in ("page_view", "time_on_page"):
        by_path = {
            path: services.stats.property_count(event_type, "path", path, *lately())
            for path in ("/one", "/two", "/two#/three", "/next")
        }
        assert by_path == {"/one": 1, "/two": 2, "/two#/three": 1, "/next": 1}
    assert services.stats.property_count("add_to_cart", "product_id", "7", *lately()) == 1


def test_the_last_event_on_closing_the_tab_arrives(
    web: WebProcess, site: Site, context: BrowserContext, once_each: Callable[..., None]
) -> None:
    page = context.new_page()
    page.goto(site.origin)
    page.click("button")
    page.close()

    once_each(page_view=1, time_on_page=1, add_to_cart=1)


def test_time_on_page_is_the_time_for_which_it_was_visible(
    web: WebProcess, site: Site, context: BrowserContext
) -> None:
    page = context.new_page()
    page.clock.install()
    page.goto(site.origin)
    with page.expect_request("**/v1/batch"):
        page.clock.run_for(90_000)

    with page.expect_request(lambda sent: "time_on_page" in (sent.post_data or "")) as request:
        page.evaluate("history.pushState({}, '', '/two')")
        page.clock.run_for(1_000)

    batch = json.loads(request.value.post_data or "")["batch"]
    [seconds] = [one["properties"]["seconds"] for one in batch if one["event"] == "time_on_page"]
    assert seconds in (90, 91)


def test_events_are_of_the_user_who_is_identified_until_the_page_is_left(
    web: WebProcess, site: Site, context: BrowserContext, services: Services
) -> None:
    page = context.new_page()
    page.goto(site.origin)
    page.evaluate("analytics.identify('u1'); analytics.track('signup')")
    page.reload()
    page.evaluate("analytics.track('signup')")

    eventually(lambda: counts(services).get("signup") == 2)
    assert services.stats.user_count("u1", "signup", *lately()) == 1


def test_calls_made_before_the_script_has_loaded_are_made_up_for(
    web: WebProcess, site: Site, context: BrowserContext, once_each: Callable[..., None]
) -> None:
    site.html = site.html.replace(
        "<script", "<script>window.analytics = [['track', 'early', {}]]</script>\n<script", 1
    )
    page = context.new_page()
    page.goto(site.origin)
    page.close()

    once_each(page_view=1, time_on_page=1, early=1)


def test_a_script_that_is_included_twice_counts_once(
    web: WebProcess, site: Site, context: BrowserContext, once_each: Callable[..., None]
) -> None:
    element = next(line for line in site.html.splitlines() if line.startswith("<script"))
    site.html = site.html.replace(element, f"{element}\n{element}")
    page = context.new_page()
    page.goto(site.origin)
    page.close()

    once_each(page_view=1, time_on_page=1)


def test_a_page_that_comes_back_from_the_browsers_cache_is_viewed_again(
    web: WebProcess, site: Site, playwright: Playwright, services: Services
) -> None:
    with playwright.chromium.launch(
        executable_path=need_chromium(),
        args=[PERSON],
        ignore_default_args=["--disable-back-forward-cache"],
    ) as caching:
        page = caching.new_page()
        page.goto(f"{site.origin}/one")
        wait_until_taken(page)
        page.evaluate("window.kept = true")
        page.click("a")
        page.wait_for_url("**/next")
        page.go_back(wait_until="commit")  # nothing is loaded
        assert page.evaluate("window.kept"), "the page was loaded again"
        page.close()

    eventually(lambda: counts(services) == {"page_view": 3, "time_on_page": 3}, 20)
    wait_until_consumed(services)
    assert counts(services) == {"page_view": 3, "time_on_page": 3}


# Ways in which the script comes into a page

WITH_KEY_IN_ADDRESS = {
    "an element": '<script defer src="{script}?ver=6.5&key={key}#x"></script>',
    "a tag manager": """<script>
      const tag = document.createElement("script");
      tag.async = true;
      tag.src = "{script}?key={key}";
      document.head.appendChild(tag);
    </script>""",
    "a module": '<script type="module" src="{script}?key={key}"></script>',
    "text that an optimiser moved": """<script src="data:,x" data-src="{script}?key={key}"></script>
    <script src="{script}?key={key}" type="text/delayed"></script>
    <script type="module">
      eval(await (await fetch(document.scripts[1].src)).text());
    </script>""",
    "a bundle": """<script type="module">
      window.analytics = [["load", "{key}", new URL("{script}").origin]];
      eval(await (await fetch("{script}")).text());
    </script>""",
}


@pytest.mark.parametrize("element", WITH_KEY_IN_ADDRESS.values(), ids=WITH_KEY_IN_ADDRESS)
def test_the_script_counts_however_it_comes_into_the_page(
    web: WebProcess,
    site: Site,
    context: BrowserContext,
    once_each: Callable[..., None],
    element: str,
) -> None:
    line = next(line for line in site.html.splitlines() if line.startswith("<script"))
    script, key = line.split('"')[1::2]
    site.html = site.html.replace(line, element.replace("{script}", script).replace("{key}", key))
    page = context.new_page()
    page.goto(site.origin)
    wait_until_taken_first(page)
    page.click("button")
    page.close()

    once_each(page_view=1, time_on_page=1, add_to_cart=1)


def wait_until_taken_first(page: Page) -> None:
    """Wait until the script runs and the collector has taken the page view."""
    page.wait_for_function("Boolean(window.analytics && window.analytics.track)")
    wait_until_taken(page)


def test_a_script_without_a_key_says_so_and_does_nothing(
    web: WebProcess, site: Site, context: BrowserContext, once_each: Callable[..., None]
) -> None:
    site.html = re.sub(r' data-key="[^"]+"', "", site.html)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{site.origin}/?key=wk_1_2")
    page.click("button")
    page.close()

    assert any("?key=wk_…" in text for text in said)
    once_each()


# What a page and its visitor may forbid


@pytest.mark.parametrize("signal", ["doNotTrack", "globalPrivacyControl"])
def test_nothing_is_sent_or_kept_of_a_visitor_who_does_not_want_it(
    web: WebProcess, site: Site, context: BrowserContext, services: Services, signal: str
) -> None:
    before = context.new_page()
    before.goto(site.origin)
    wait_until_taken(before)
    before.close()
    eventually(lambda: counts(services) == {"page_view": 1, "time_on_page": 1})

    value = {"doNotTrack": "'1'", "globalPrivacyControl": "true"}[signal]
    context.add_init_script(f"Object.defineProperty(navigator, '{signal}', {{value: {value}}})")
    page = context.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.method))
    page.goto(site.origin)
    page.click("button")
    page.evaluate("analytics.identify('u1'); analytics.track('signup')")
    page.evaluate("history.pushState({}, '', '/two')")
    assert page.evaluate("localStorage.length") == 0
    assert page.evaluate("document.cookie") == ""
    page.goto("about:blank")

    assert set(requested) == {"GET"}
    wait_until_consumed(services)
    assert counts(services) == {"page_view": 1, "time_on_page": 1}


def test_a_strict_content_security_policy_needs_the_collectors_origin_and_nothing_else(
    web: WebProcess, site: Site, context: BrowserContext, once_each: Callable[..., None]
) -> None:
    site.policy = (
        f"default-src 'none'; script-src {web.origin}; connect-src {web.origin}; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    context.add_init_script(
        "addEventListener('securitypolicyviolation', (event) => console.error(event.blockedURI))"
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(site.origin)
    page.click("button")
    page.evaluate("history.pushState({}, '', '/two')")
    page.close()

    once_each(page_view=2, time_on_page=2, add_to_cart=1)
    assert [text for text in wrong if "favicon" not in text] == []


def test_events_are_counted_where_storage_is_forbidden(
    web: WebProcess,
    site: Site,
    context: BrowserContext,
    services: Services,
    once_each: Callable[..., None],
) -> None:
    give_key(site, services, web.origin, origins=["*"])
    site.policy = "sandbox allow-scripts"  # an origin of its own, without storage
    page = context.new_page()
    page.goto(site.origin)
    page.click("button")
    page.close()

    once_each(page_view=1, time_on_page=1, add_to_cart=1)


def test_a_bot_is_counted_apart(
    web: WebProcess, site: Site, playwright: Playwright, services: Services
) -> None:
    with playwright.chromium.launch(executable_path=need_chromium()) as headless:
        page = headless.new_page()
        page.goto(site.origin)
        page.close()

    eventually(lambda: services.stats.count("bot:time_on_page", *lately()) == 1)
    assert services.stats.count("bot:page_view", *lately()) == 1
    assert counts(services) == {}


def test_the_script_leaves_no_cookie_and_nothing_in_storage(
    web: WebProcess, site: Site, context: BrowserContext
) -> None:
    page = context.new_page()
    page.goto(site.origin)
    page.click("button")
    wait_until_taken(page)

    assert context.cookies() == []
    assert context.storage_state()["origins"] == []
