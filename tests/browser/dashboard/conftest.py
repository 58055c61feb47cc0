"""A dashboard with events, and a browser that is signed in to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from pipeline.access.key_store import AccessKeyStore
from pipeline.event.model import Event
from pipeline.services import Services
from tests.clients.libraries import install_for_node
from tests.helpers.support import Workers, count_events
from tests.helpers.web_process import WebProcess

SIZES = {"desktop": (1440, 900), "phone": (375, 800), "tiny": (320, 700)}
COUNT_BY = {"page_view": ["path"], "purchase": ["plan"]}
SUM = {"purchase": {"amount": 2}}
_WATCH = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""


@pytest.fixture
def services(make_services: Callable[..., Services]) -> Services:
    return make_services(count_by=COUNT_BY, sum=SUM)


@pytest.fixture
def web(workers: Workers, services: Services) -> WebProcess:
    """The web server as a process of its own."""
    settings = {"COUNT_BY": json.dumps(COUNT_BY), "SUM": json.dumps(SUM)}
    return WebProcess(workers).start(**settings)


@pytest.fixture
def token(services: Services) -> str:
    """A read token with every right."""
    access = AccessKeyStore(services.redis, services.keys)
    return access.create("read", "all", may_operate=True, may_edit=True, may_forget=True)[1]


@pytest.fixture
def events(services: Services) -> None:
    """Events of two months and three types, nearly all of them flushed and archived."""
    now = datetime.now(UTC)

    def make(n: int, event_type: str, **properties: Any) -> Event:
        at = now - timedelta(hours=7 * n)
        return Event.create(event_type, f"u{n % 7}", now=now, timestamp=at, properties=properties)

    paths = ["/", "/pricing", "/docs/a-rather-long-path/that-goes-on/and-on"]
    count_events(services, *[make(n, "page_view", path=paths[n % 3]) for n in range(200)])
    count_events(services, *[make(2 * n, "purchase", plan="pro", amount=n) for n in range(90)])
    services.flush()
    services.archive_events()
    count_events(services, make(0, "signup"), make(0, "page_view", path="/"))


@pytest.fixture
def open_page(browser: Browser, web: WebProcess, token: str) -> Iterator[Callable[..., Page]]:
    """Opens a page of the dashboard, signed in: `open_page("/dashboard", size="phone",
    scheme="dark")`, by `origin` on another server than `web`. The test fails when a page breaks the
    policy or logs an error."""
    said: list[str] = []
    contexts: list[BrowserContext] = []

    def open_(
        path: str,
        size: str = "desktop",
        scheme: str = "light",
        origin: str = web.origin,
        **options: Any,
    ) -> Page:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            **options,
        )
        contexts.append(context)
        context.add_init_script(_WATCH)
        page = context.new_page()
        page.on("console", lambda one: said.append(one.text) if one.type == "error" else None)
        page.on("pageerror", lambda error: said.append(f"{error}"))
        page.goto(f"{origin}/dashboard/sign-in")
        page.fill("[name=token]", token)
        page.click("text=Sign in >> nth=-1")
        page.wait_for_url("**/dashboard")
        page.goto(f"{origin}{path}")
        return page

    yield open_
    for context in contexts:
        context.close()
    # A browser writes every response of 4xx and 5xx into its console.
    assert [text for text in said if "the server responded with a status" not in text] == []


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    folder = install_for_node(Path(__file__).parent / "node")
    return (folder / "node_modules/axe-core/axe.min.js").read_text("utf-8")


@pytest.fixture
def check_accessibility(axe: str) -> Callable[[Page], None]:
    """Fails with what axe-core finds on a page."""

    def check(page: Page) -> None:
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert [
            (one["id"], one["help"], [node["html"][:160] for node in one["nodes"][:3]])
            for one in found["violations"]
        ] == []

    return check
