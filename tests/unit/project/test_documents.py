"""The README names what there is: every setting with its default, every command, every target."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from config.settings import Settings, describe, load
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
