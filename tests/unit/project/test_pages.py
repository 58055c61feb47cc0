"""README and pages: what they name exists, and what they link to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from config.description import name_variable
from config.settings import Settings
from pipeline.cli.app import app
from pipeline.measures import MEASURES
from pipeline.metrics.processes import PROCESS_METRICS
from pipeline.metrics.state import PREFIX, STATE_METRICS
from pipeline.postgres import fitness

ROOT = Path(__file__).parents[3]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "SECURITY.md", ROOT / "README.md"])


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_a_page_is_linked_from_another(page: Path) -> None:
    if page.name != "README.md":
        linking = (one for one in PAGES if one != page)
        assert any(page.name in one.read_text(encoding="utf-8") for one in linking)


def test_a_page_links_to_what_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        to, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / to if to else page
        assert target.exists(), link
        assert not anchor or anchor in find_anchors(target), link


def find_anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, where the repository is shown."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_a_page_names_settings_that_exist(page: Path) -> None:
    known = {name_variable(name) for name in Settings.model_fields}
    of_tests = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    known |= set(re.findall(r'environ\.get\("(ANALYTICS_TEST_[A-Z_]+)"\)', of_tests))
    named = set(re.findall(r"\bANALYTICS_[A-Z_]+\b", page.read_text(encoding="utf-8")))
    assert named <= known


def test_a_page_names_metrics_that_exist(page: Path) -> None:
    known = {one.name for one in (*STATE_METRICS, *PROCESS_METRICS, *MEASURES)}
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(rf"`{PREFIX}([a-z_]+)`", text))
    named -= {name.removeprefix(PREFIX) for name in fitness.metadata.tables} | {"plain_user_ids"}
    assert named <= known


def test_a_page_names_commands_that_exist(page: Path) -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    named = re.findall(r"`analytics ([a-z][a-z-]*)", page.read_text(encoding="utf-8"))
    assert set(named) <= set(known)


@pytest.mark.parametrize("page_of_security", ["docs/explanation/threat-model.md", "SECURITY.md"])
def test_the_readme_links_to_what_concerns_security(page_of_security: str) -> None:
    assert f"]({page_of_security})" in (ROOT / "README.md").read_text(encoding="utf-8")
