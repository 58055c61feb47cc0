"""The README is short; figures and versions in the documents are those of the tree."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.report import report
from benchmarks.report.readme import choose_for_readme
from benchmarks.report.report import Row

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


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
