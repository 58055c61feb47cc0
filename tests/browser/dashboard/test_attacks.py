"""What other sites and hostile events try on a viewer who is signed in: nothing comes of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from pipeline.event.model import Event
from pipeline.services import Services
from tests.browser.site import Site
from tests.helpers.support import count_events
from tests.helpers.web_process import WebProcess, lately

OpenPage = Callable[..., Page]
SCRIPT = "<script>alert(1)</script>"
QUOTES = "\"'><img src=x onerror=\"alert('1')\">"
FORMULA = "=1+cmd|' /C calc'!A0"
POST = """<!doctype html><title>Evil</title>
<form method="post" action="{action}"><input name="{name}" value="{value}"></form>
<script>document.forms[0].submit()</script>"""
FRAME = '<!doctype html><title>Evil</title><iframe src="{url}"></iframe>'


@pytest.fixture
def hostile(services: Services) -> None:
    """Events that name scripts, quotes and formulas everywhere, flushed and archived."""
    now = datetime.now(UTC)
    made = [
        (SCRIPT, QUOTES, {QUOTES: SCRIPT}),
        ("page_view", SCRIPT, {"path": QUOTES}),
        ("page_view", QUOTES, {"path": SCRIPT}),
        ("page_view", FORMULA, {"path": FORMULA}),
        (FORMULA, "u1", {}),
        ("purchase", "u1", {"plan": QUOTES, "amount": 1}),
    ]
    count_events(services, *[Event.create(*one, now=now) for one in made])
    services.flush()
    services.archive_events()


@pytest.mark.parametrize(
    ("action", "field"),
    [
        ("sign-out", ("x", "y")),
        ("pipeline/flush", ("x", "y")),
        ("user/forget", ("typed", "u1")),
        ("annotations/add", ("text", "Evil")),
    ],
)
def test_a_form_of_another_site_changes_nothing(
    open_page: OpenPage,
    services: Services,
    site: Site,
    action: str,
    field: tuple[str, str],
) -> None:
    count_events(services, Event.create("page_view", "u1", now=datetime.now(UTC)))
    page = open_page("/dashboard")
    origin = page.url.partition("/dashboard")[0]
    evil = page.context.new_page()
    # Another port of this host is the same site to a browser, which sends the cookie along.
    site.html = POST.format(action=f"{origin}/dashboard/{action}", name=field[0], value=field[1])
    with evil.expect_response(lambda one: one.request.method == "POST") as answered:
        evil.goto(site.origin)
    assert answered.value.status == 403
    page.reload()
    expect(page.locator("h1")).to_contain_text("Overview")
    assert services.stats.count("page_view", *lately()) == 1
    assert services.status()["pending_counters"] > 0
    page.goto(f"{origin}/dashboard/annotations")
    expect(page.locator("main")).not_to_contain_text("Evil")


def test_the_dashboard_is_not_shown_in_a_frame(
    open_page: OpenPage, web: WebProcess, site: Site, events: None
) -> None:
    evil = open_page("/dashboard").context.new_page()
    for path in ("/dashboard", "/dashboard/pipeline", "/dashboard/sign-in"):
        site.html = FRAME.format(url=f"{web.origin}{path}")
        refused: list[str] = []
        evil.on("console", lambda one, refused=refused: refused.append(one.text))
        evil.goto(site.origin)
        evil.wait_for_load_state("networkidle")
        assert "frame-ancestors" in " ".join(refused)
        assert all(not frame.url.startswith(web.origin) for frame in evil.frames)


def test_names_and_values_that_are_markup_are_shown_as_text(
    open_page: OpenPage, web: WebProcess, hostile: None
) -> None:
    page = open_page("/dashboard?type=page_view")
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for path, shown in (
        ("/dashboard", SCRIPT),
        (f"/dashboard?type=page_view&property=path&value={quote(QUOTES)}", QUOTES),
        (f"/dashboard/type?type={quote(SCRIPT)}", SCRIPT),
        ("/dashboard/type?type=purchase", QUOTES),
        (f"/dashboard/user?user={quote(QUOTES)}", QUOTES),
        ("/dashboard/explore", SCRIPT),
        ("/dashboard/live", SCRIPT),
        (f"/dashboard/funnels?step1={quote(SCRIPT)}&step2=page_view", SCRIPT),
        (f"/dashboard/retention?start={quote(SCRIPT)}&every=day", SCRIPT),
    ):
        page.goto(f"{web.origin}{path}")
        expect(page.locator("main")).to_contain_text(shown)
        assert page.locator("main img, main script").count() == 0, path
    assert dialogs == []


def test_the_longest_names_do_not_widen_a_phone(
    open_page: OpenPage, web: WebProcess, services: Services
) -> None:
    now, name = datetime.now(UTC), "x" * 200
    made = Event.create(name, "u" * 256, {"amount": 1, name: name}, now=now)
    count_events(services, made, Event.create("page_view", "u1", {"path": name}, now=now))
    services.flush()
    services.archive_events()
    page = open_page("/dashboard", size="tiny")
    for path in (
        f"/dashboard?type={name}",
        f"/dashboard?type=page_view&property=path&value={name}",
        "/dashboard/details?of=types",
        f"/dashboard/type?type={name}",
        f"/dashboard/user?user={'u' * 256}",
        "/dashboard/explore",
        f"/dashboard/funnels?step1={name}&step2={name}",
        f"/dashboard/retention?start={name}&every=day",
    ):
        page.goto(f"{web.origin}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, path


@pytest.mark.parametrize("path", ["/dashboard/explore", "/dashboard/details?of=types"])
def test_no_cell_of_a_table_that_is_taken_away_is_a_formula(
    open_page: OpenPage, hostile: None, path: str
) -> None:
    page = open_page(path)
    with page.expect_download() as download:
        page.click("a:has-text('CSV')")
    text = download.value.path().read_text("utf-8")
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    assert f"'{FORMULA}" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "@", "+"))]
