"""An event type, a user, Live and Explore in a browser, each usable by everyone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import product

from playwright.sync_api import Page, expect

from pipeline.event.model import Event
from pipeline.services import Services
from tests.helpers.support import count_events

OpenPage = Callable[..., Page]
PATHS = (
    "/dashboard/type?type=purchase",
    "/dashboard/user?user=u1",
    "/dashboard/live",
    "/dashboard/explore",
)


def test_axe_finds_nothing_and_nothing_scrolls_sideways(
    open_page: OpenPage, check_accessibility: Callable[[Page], None], events: None
) -> None:
    page = open_page(PATHS[0])
    origin = page.url.partition("/dashboard")[0]
    more = ("/dashboard/live?type=purchase", "/dashboard/type", "/dashboard/user?user=none")
    for path in (*PATHS, *more):
        page.goto(f"{origin}{path}")
        for scheme, (width, height) in product(("light", "dark"), ((1440, 900), (320, 700))):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": height})
            check_accessibility(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, path


def test_live_shows_events_as_they_come_and_holds_them_while_paused(
    open_page: OpenPage, events: None, services: Services
) -> None:
    page = open_page("/dashboard/live")
    newest = page.locator("ol.events li >> nth=0")
    expect(page.locator("#live-state")).to_have_text("As it happens")
    count_events(services, Event.create("comes", "u", now=datetime.now(UTC)))
    expect(newest).to_contain_text("comes")
    page.click("text=Pause")
    count_events(services, Event.create("waits", "u", now=datetime.now(UTC)))
    expect(page.locator("[data-part=types]")).to_contain_text("waits", timeout=15_000)
    expect(newest).to_contain_text("comes")
    page.click("text=Go on")
    expect(newest).to_contain_text("waits")


def test_a_hidden_tab_asks_for_nothing(open_page: OpenPage, events: None) -> None:
    page = open_page("/dashboard/live")
    expect(page.locator("#live-state")).to_have_text("As it happens")
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with page.expect_event("requestfailed", lambda one: "live/stream" in one.url):
        page.evaluate(hide, True)
    with page.expect_request(lambda one: "live/stream" in one.url):
        page.evaluate(hide, False)


def test_explore_filters_by_a_form_and_leads_to_type_and_user(
    open_page: OpenPage, events: None
) -> None:
    page = open_page("/dashboard/explore?range=90d", java_script_enabled=False)
    page.fill("[name=type]", "purchase")
    page.fill("[name=where]", "amount >= 85")
    page.click("form.filters button.primary")
    expect(page.locator("ol.events li")).to_have_count(5)
    assert "range=90d" in page.url
    page.click("ol.events li >> nth=0 >> text=purchase")
    expect(page.locator("h1")).to_contain_text("purchase")
    page.go_back()
    page.click("ol.events li >> nth=0 >> a[href*='user=']")
    expect(page.locator("h1")).to_contain_text("User u")


def test_a_user_is_forgotten_when_the_id_is_typed_again(open_page: OpenPage, events: None) -> None:
    page = open_page("/dashboard/user?user=u1&range=90d")
    page.fill("[name=typed]", "u2")
    page.click("button:has-text('Forget')")
    expect(page.locator("[role=status]")).to_contain_text("Nothing was removed")
    page.fill("[name=typed]", "u1")
    page.click("button:has-text('Forget')")
    expect(page.locator("[role=status]")).to_contain_text("Forgotten")
    expect(page.locator("#days")).to_contain_text("No events of this user")
