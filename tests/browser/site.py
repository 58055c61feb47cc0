"""A web site of another origin than the collector's, and the browser that visits it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page

from pipeline.access.key_store import AccessKeyStore
from pipeline.services import Services
from tests.helpers.web_process import lately

# A browser without a window calls itself HeadlessChrome, and is counted as a bot. Said of the whole
# browser and not of a page, since it holds too for what is sent when the page is gone.
PERSON = "--user-agent=Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0.0.0"

_MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript"}

PAGE = """<!doctype html>
<html lang="en">
<title>Shop</title>
<script defer src="{script}" data-key="{key}"></script>
<h1>Shop</h1>
<button data-track="add_to_cart" data-track-product-id="7"><span>Add to cart</span></button>
<p><a href="/next">Next</a></p>
"""


def need_chromium() -> str:
    """The program. Where there is none, skips; where CI is set, fails."""
    found = shutil.which("chromium")
    if found is None:
        without = pytest.fail if os.environ.get("CI") else pytest.skip
        without("Chromium is not installed (on Debian: apt-get install chromium)")
    return found


class Site:
    """Answers every path with the same page, as a single-page application does, but those that
    begin with a name in `directories`: with the files that lie there."""

    def __init__(self) -> None:
        self.html = ""
        self.directories: dict[str, Path] = {}
        self.policy = ""
        """The Content-Security-Policy, if any."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.origin = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def serving(self) -> Iterator[Site]:
        """While this is entered, the site answers."""
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def find(self, path: str) -> tuple[bytes, str]:
        """What a path is answered with, and its media type."""
        for prefix, directory in self.directories.items():
            if path.startswith(prefix):
                file = directory / path.partition("?")[0].removeprefix(prefix)
                # A module that is meant for a bundler imports others without it.
                file = file if file.suffix else file.with_suffix(".js")
                return file.read_bytes(), _MEDIA_TYPES[file.suffix]
        return self.html.encode(), _MEDIA_TYPES[".html"]

    def _handler(site) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body, media_type = site.find(self.path)
                self.send_response(200)
                self.send_header("Content-Type", f"{media_type}; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                if site.policy:
                    self.send_header("Content-Security-Policy", site.policy)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Keep the test's output to what matters."""

        return Handler


def give_key(site: Site, services: Services, collector: str, origins: Sequence[str]) -> str:
    """Put the script, with a new write key, into the page of the site; returns the key's id."""
    access = AccessKeyStore(services.redis, services.keys)
    key, shown = access.create("write", "shop", origins)
    site.html = PAGE.format(script=f"{collector}/analytics.js", key=shown)
    return key.id


def counts(services: Services) -> dict[str, int]:
    """The counts of what these tests send, but zeros."""
    return {
        name: found
        for name in ("page_view", "time_on_page", "add_to_cart", "signup", "early")
        if (found := services.stats.count(name, *lately()))
    }


def waits(page: Page) -> list[str]:
    """The types of the events that wait in localStorage."""
    types: list[str] = page.evaluate(
        "Object.values(localStorage).map((text) => JSON.parse(text).event)"
    )
    return sorted(types)


def wait_until_taken(page: Page) -> None:
    """Wait until the collector has taken everything."""
    page.wait_for_function("localStorage.length === 0")
