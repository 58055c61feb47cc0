"""The documentation builds without a warning, and reading it loads nothing from another host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOADED = {"script": "src", "link": "href", "img": "src", "source": "srcset", "iframe": "src"}
"""Tag -> the attribute whose address a browser loads by itself."""


class LoadedAddresses(HTMLParser):
    """Collects what a browser loads with a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name == LOADED.get(tag)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; it would not be built with a broken link, anchor or a page outside `nav`."""
    directory = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", f"{directory}"],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert not re.search("WARNING|ERROR", built.stderr), built.stderr
    return directory


def pages(site: Path) -> Iterator[tuple[Path, str]]:
    for page in sorted(site.rglob("*.html")):
        yield page, page.read_text(encoding="utf-8")


def test_a_page_loads_nothing_from_another_host(site: Path) -> None:
    for page, text in pages(site):
        parser = LoadedAddresses()
        parser.feed(text)
        assert parser.found
        foreign = [one for one in parser.found if re.match(r"(?:https?:)?//", one)]
        assert not foreign, (page.name, foreign)
        # Its script would load the library for diagrams from a content delivery network.
        assert 'class="mermaid"' not in text


def test_a_style_loads_nothing_from_another_host(site: Path) -> None:
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//|@import", style.read_text("utf-8")), style


def test_every_picture_of_a_page_is_there(site: Path) -> None:
    for page, text in pages(site):
        for address in re.findall(r'<img [^>]*src="([^"#]+)', text):
            assert page.name == "404.html" or (page.parent / address).exists(), (page, address)


def test_pages_can_be_searched_and_shown_light_and_dark(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "ANALYTICS_DEDUP_WINDOW_S" in index
    home = (site / "index.html").read_text(encoding="utf-8")
    assert {"default", "slate"} <= set(re.findall(r'data-md-color-scheme="(\w+)"', home))
