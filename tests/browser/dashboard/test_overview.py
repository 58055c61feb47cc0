"""The overview in a browser: what it shows, its links and forms, and that everyone can use it."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product

import pytest
from playwright.sync_api import Page, expect

from pipeline.services import Services
from tests.helpers.web_process import WebProcess

OpenPage = Callable[..., Page]


@pytest.mark.parametrize(("size", "scheme"), [*product(("desktop", "phone"), ("light", "dark"))])
def test_axe_finds_nothing_and_nothing_scrolls_sideways(
    open_page: OpenPage,
    check_accessibility: Callable[[Page], None],
    events: None,
    size: str,
    scheme: str,
) -> None:
    page = open_page("/dashboard", size, scheme)
    check_accessibility(page)
    page.click("summary:has-text('Show as table')")
    page.click("summary:has-text('Last 28 days')")
    check_accessibility(page)
    for width in (720, 320):
        page.set_viewport_size({"width": width, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        menu = page.locator("details.menu[open] > div").bounding_box()
        assert menu is not None
        assert menu["x"] >= 0
        assert menu["x"] + menu["width"] <= width


def test_filters_and_zone_are_in_the_url_and_survive_a_reload(
    open_page: OpenPage, events: None
) -> None:
    page = open_page("/dashboard?range=90d")
    page.click("#types a:has-text('purchase')")
    expect(page.locator(".chips")).to_contain_text("purchase")
    page.click("summary:has-text('UTC')")
    page.fill("[name=zone]", "Asia/Tokyo")
    page.click("button:has-text('Use')")
    expect(page).to_have_url(re.compile("zone=Asia%2FTokyo"))
    expect(page.locator(".chips")).to_contain_text("purchase")
    assert "type=purchase" in page.url
    before = page.locator("main").inner_text()
    page.reload()
    assert page.locator("main").inner_text() == before


def test_a_card_is_read_again_without_the_page(
    open_page: OpenPage, events: None, services: Services
) -> None:
    from datetime import UTC, datetime

    from pipeline.event.model import Event
    from tests.helpers.support import count_events

    page = open_page("/dashboard?range=7d")
    count_events(services, Event.create("appears", "u", now=datetime.now(UTC)))
    with page.expect_response(lambda response: "card=types" in response.url):
        page.click("#types a.refresh")
    expect(page.locator("#types")).to_contain_text("appears")


def test_dragging_over_the_chart_shows_that_stretch(open_page: OpenPage, events: None) -> None:
    page = open_page("/dashboard")
    box = page.locator("svg.chart.wide").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 100)
    expect(page.locator(".tip")).to_be_visible()
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 100, steps=4)
    page.mouse.up()
    page.wait_for_url("**from=**")
    assert "to=" in page.url


def test_it_works_without_scripts(open_page: OpenPage, events: None) -> None:
    page = open_page("/dashboard", java_script_enabled=False)
    page.click("summary:has-text('Last 28 days')")
    page.click("a:has-text('Last 7 days')")
    page.click("#types a:has-text('page_view')")
    expect(page.locator(".chips")).to_contain_text("page_view")


def test_the_first_event_turns_the_empty_page(
    open_page: OpenPage,
    check_accessibility: Callable[[Page], None],
    services: Services,
    web: WebProcess,
) -> None:
    from datetime import UTC, datetime

    from pipeline.event.model import Event
    from tests.helpers.support import count_events

    page = open_page("/dashboard")
    expect(page.locator("main")).to_contain_text(f"{web.origin}/analytics.js")
    check_accessibility(page)
    count_events(services, Event.create("first", "u", now=datetime.now(UTC)))
    expect(page.locator("#types")).to_contain_text("first", timeout=15_000)


def test_the_form_and_an_error_are_accessible(
    open_page: OpenPage, check_accessibility: Callable[[Page], None], web: WebProcess
) -> None:
    page = open_page("/dashboard?zone=nowhere")
    expect(page.locator("main")).to_contain_text("is no time zone")
    check_accessibility(page)
    page.goto(f"{web.origin}/dashboard")
    page.click("text=Sign out")
    page.fill("[name=token]", "rt_wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#wrong")).to_be_visible()
    check_accessibility(page)
