"""Funnels, retention, annotations and saved views in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import redis
from playwright.sync_api import Page, expect

from pipeline.access.key_store import AccessKeyStore
from pipeline.services import Services
from pipeline.web.api import archive_questions
from pipeline.web.dependencies import WebDependencies, WebOptions
from tests.helpers.api_server import served

OpenPage = Callable[..., Page]
FUNNEL = "/dashboard/funnels?step1=page_view&step2=purchase&property=path&range=90d"
RETENTION = "/dashboard/retention?start=page_view&return=purchase&range=90d"


@pytest.mark.parametrize(
    ("path", "size", "scheme"),
    [
        (FUNNEL, "desktop", "light"),
        (FUNNEL, "tiny", "dark"),
        (f"{FUNNEL}&view=table", "tiny", "light"),
        (RETENTION, "desktop", "dark"),
        (RETENTION, "tiny", "light"),
        ("/dashboard/funnels?step1=page_view&step2=x&window=99d", "tiny", "light"),
    ],
)
def test_everyone_can_use_funnels_and_retention(
    open_page: OpenPage,
    check_accessibility: Callable[[Page], None],
    events: None,
    path: str,
    size: str,
    scheme: str,
) -> None:
    page = open_page(path, size, scheme)
    check_accessibility(page)
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_funnel_is_built_without_scripts(open_page: OpenPage, events: None) -> None:
    page = open_page("/dashboard/funnels", java_script_enabled=False)
    page.fill("[name=step1]", "page_view")
    page.fill("[name=where1]", 'path = "/"')
    page.fill("[name=step2]", "purchase")
    page.select_option("[name=window]", "30d")
    page.click("form.journey button")
    expect(page.locator("#result figcaption")).to_contain_text(re.compile(r"^Of \d+ users"))
    page.fill("[name=step3]", "signup")
    page.click("form.journey button")
    expect(page.locator(".funnel > li")).to_have_count(3)
    page.click("a:has-text('Take away') >> nth=1")
    expect(page.locator(".funnel > li")).to_have_count(2)
    assert page.input_value("[name=step2]") == "signup"
    assert page.input_value("[name=window]") == "30d"


@pytest.mark.usefixtures("events", "sending")
def test_a_report_is_asked_for_while_the_page_is_seen(
    open_page: OpenPage,
    services: Services,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archive_questions, "MOST_ROWS_AT_ONCE", -1)  # every question is long
    access = AccessKeyStore(client, services.keys)
    dependencies = WebDependencies(services, client, access, WebOptions())
    with served(dependencies) as origin:
        page = open_page(FUNNEL, origin=origin)
        expect(page.locator("#result")).to_contain_text("The report waits for a worker")
        asked: list[str] = []
        page.on("request", lambda one: asked.append(one.url))
        hide = (
            'hidden => Object.defineProperty(document, "hidden", {value: hidden, writable: true})'
        )
        page.evaluate(hide, True)
        page.wait_for_timeout(2_500)
        assert asked == []
        with page.expect_response(lambda one: "card=result" in one.url):
            page.evaluate("document.hidden = false")
        assert services.make_next_report() is None
        expect(page.locator("#result figcaption >> nth=0")).to_contain_text("users who did")


@pytest.mark.parametrize("path", ["/dashboard?range=7d", "/dashboard/type?type=page_view&range=7d"])
def test_a_note_is_added_from_the_chart_and_a_view_saved_from_the_menu(
    open_page: OpenPage, check_accessibility: Callable[[Page], None], events: None, path: str
) -> None:
    page = open_page(path, "phone")
    page.click("summary:has-text('Annotate')")
    check_accessibility(page)
    page.fill("[name=text]", "Version 2")
    page.click("button:has-text('Add')")
    expect(page.locator(".notice")).to_contain_text("Version 2")
    assert "range=7d" in page.url
    expect(page.locator("svg.narrow g.mark")).to_have_count(1)
    check_accessibility(page)
    page.click("summary:has-text('Views')")
    page.fill(".views [name=name]", "My week")
    page.click("button:has-text('Save')")
    expect(page.locator(".notice")).to_contain_text("My week")
    page.click("summary:has-text('Views')")
    expect(page.locator(".views a >> nth=0")).to_have_text("My week")
    page.click(".views a:has-text('All saved views')")
    expect(page.locator(".saved-views a:has-text('My week')")).to_be_visible()
    check_accessibility(page)
    page.click(".saved-views a:has-text('My week')")
    expect(page).to_have_url(re.compile("range=7d"))
    page.click("summary:has-text('Annotate')")
    page.click("a:has-text('All annotations')")
    expect(page.locator("button:has-text('Delete')")).to_be_visible()
    check_accessibility(page)
    page.click("button:has-text('Delete')")
    expect(page.locator("main")).to_contain_text("No annotations yet")
