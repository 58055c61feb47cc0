"""The page of the first tutorial: copied, opened and counted as that says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from pipeline.access.key_store import AccessKeyStore
from pipeline.services import Services
from tests.browser.site import counts, wait_until_taken
from tests.helpers.applications.serving import port_for, running
from tests.helpers.applications.tutorials import EXAMPLES, ROOT, read_blocks, read_console
from tests.helpers.support import eventually
from tests.helpers.web_process import WebProcess, wait_until_consumed

_PAGE = ROOT / "docs" / "tutorials" / "first-page.md"


@pytest.fixture
def clone(services: Services, tmp_path: Path) -> Path:
    """A directory with what the tutorial uses of a clone in which the pipeline runs."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "examples").symlink_to(EXAMPLES)
    access = AccessKeyStore(services.redis, services.keys)
    keys = {
        "write": access.create("write", "page", ["*"])[1],
        "read": access.create("read", "people")[1],
    }
    (tmp_path / ".analytics").mkdir()
    (tmp_path / ".analytics" / "web-keys.json").write_text(json.dumps(keys))
    return tmp_path


def test_a_page_is_counted_as_the_tutorial_says(
    web: WebProcess,
    services: Services,
    clone: Path,
    context: BrowserContext,
    analytics: Callable[..., tuple[int, str, str]],
) -> None:
    shown = [one.text for one in read_blocks(_PAGE) if one[:2] == ("sh", "")]
    here = [text.replace("http://127.0.0.1:8080", web.origin) for text in shown]
    *copy, serve = here[1].replace("/tmp/page", f"{clone}/page").splitlines()
    port, command = port_for(serve.removeprefix(".venv/bin/").replace("8000", "PORT"))

    def run(commands: str) -> str:
        ran = subprocess.run(
            ["sh", "-ec", commands], cwd=clone, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    run("\n".join(copy))
    html = clone / "page" / "index.html"
    html.write_text(html.read_text().replace("http://127.0.0.1:8080", web.origin))
    with running(command, clone / "log", PYTHONUNBUFFERED="1") as server:
        eventually(lambda: "Serving HTTP" in server.output or not server.runs())
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.get_by_role("button", name="Sign up").click()
        wait_until_taken(page)
        eventually(lambda: counts(services) == {"page_view": 1, "signup": 1})
        for asked, output in read_console(_PAGE):
            assert analytics(*asked) == (0, output, "")

    run(here[2])
    run(here[2])  # which counts once
    wait_until_consumed(services)
    assert '"count":2' in run(here[3])
