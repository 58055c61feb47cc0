"""The README names what there is: every setting with its default, every command, every target."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer

from config.description import describe
from config.settings import Settings, load
from pipeline.cli.app import app

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_the_readme_lists_every_setting(name: str) -> None:
    assert f"| `ANALYTICS_{name.upper()}` |" in README


def test_the_readme_lists_no_setting_that_does_not_exist() -> None:
    known = {row.name for row in describe(load())}
    assert set(re.findall(r"^\| `(ANALYTICS_\w+)` \|", README, re.MULTILINE)) == known


def test_the_readme_names_every_command() -> None:
    commands = README.split("## Commands")[1].split("## Settings")[0]
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert f"`{name}`" in commands, name


def test_the_makefile_has_the_targets_that_the_readme_calls() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", README)) <= targets


def test_the_page_of_client_libraries_names_the_versions_that_the_tests_run() -> None:
    page = (ROOT / "docs" / "client-libraries.md").read_text(encoding="utf-8")
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
