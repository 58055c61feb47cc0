"""README and pages: what they name exists, what they link to is there, and figures and versions are
those of the tree."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer

from benchmarks.report import report
from benchmarks.report.readme import choose_for_readme
from benchmarks.report.report import Row
from config.description import name_variable
from config.settings import Settings
from pipeline.cli.app import app
from pipeline.measures import MEASURES
from pipeline.metrics.processes import PROCESS_METRICS
from pipeline.metrics.state import PREFIX, STATE_METRICS
from pipeline.postgres import fitness

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
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
    tables = (*fitness.metadata.tables, fitness.VERSION_TABLE)
    named -= {name.removeprefix(PREFIX) for name in tables} | {"plain_user_ids"}
    assert named <= known


def test_a_page_names_commands_that_exist(page: Path) -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    named = re.findall(r"`analytics ([a-z][a-z-]*)", page.read_text(encoding="utf-8"))
    assert set(named) <= set(known)


@pytest.mark.parametrize("page_of_security", ["docs/explanation/threat-model.md", "SECURITY.md"])
def test_the_readme_links_to_what_concerns_security(page_of_security: str) -> None:
    assert f"]({page_of_security})" in README


def test_code_and_pages_name_pages_that_exist() -> None:
    """In messages, comments and files of servers, which no builder of documents checks."""
    folders = ("pipeline", "tasks", "config", "deploy", "docs", "examples")
    files = [one for folder in folders for one in (ROOT / folder).rglob("*")]
    for file in [*files, ROOT / "docker-compose.yml", ROOT / "Makefile"]:
        if file.suffix in {".py", ".lua", ".yml", ".yaml", ".json", ".md", ""} and file.is_file():
            for name in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text(encoding="utf-8")):
                assert (ROOT / name).exists(), f"{file}: {name}"


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 130


@pytest.mark.parametrize("command", ["make run", "make test"])
def test_the_readme_has_the_commands_that_run_and_test_everything(command: str) -> None:
    assert f"```sh\n{command}\n```" in README


def test_the_readme_shows_the_rows_of_the_last_benchmark() -> None:
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    rows = choose_for_readme([Row(**row) for row in results["rows"]])
    assert "\n".join(report.markdown(rows)) in README, "python -m benchmarks.report.readme RUN…"


def test_the_page_of_client_libraries_names_the_versions_that_the_tests_run() -> None:
    page = (ROOT / "docs/guides/sending/client-libraries.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `.*", page, re.MULTILINE)
    for name, version in find_tested_libraries().items():
        assert any(f"`{name}`" in row and version in row for row in rows), (name, version)


def find_tested_libraries() -> dict[str, str]:
    """Each library that tests/clients sends with, and its version."""
    clients = ROOT / "tests" / "clients"
    found: dict[str, str] = json.loads((clients / "node/package.json").read_text())["dependencies"]
    locks = [ROOT / "requirements.lock", *clients.glob("python/*.lock")]
    names = "segment-analytics-python|analytics-python|rudder-sdk-python|posthog"
    for lock in locks:
        found |= dict(re.findall(rf"^({names})==(\S+)", lock.read_text(), re.MULTILINE))
    return found
