"""The tutorials show the code of `examples/` as it is, all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.applications.tutorials import EXAMPLES, PAGES, ROOT, read_blocks, read_commands

SHOPS = [page for page in PAGES if page.stem.endswith("-shop")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_tutorial_is_that_of_its_example(page: Path) -> None:
    shown: dict[str, list[str]] = {}
    for block in read_blocks(page):
        if block.file:
            shown.setdefault(block.file, []).extend(lines(block.text))

    assert shown
    for file, text in shown.items():
        assert text == lines((ROOT / file).read_text(encoding="utf-8")), file


def lines(text: str) -> list[str]:
    """The lines that are not blank: a tutorial shows a file in pieces."""
    return [line for line in text.splitlines() if line]


def test_there_is_a_tutorial_for_each_shop() -> None:
    shops = {folder.name for folder in EXAMPLES.glob("*_shop")}
    assert {page.stem.replace("-", "_") for page in SHOPS} == shops


@pytest.mark.parametrize("page", SHOPS, ids=lambda page: page.stem)
def test_a_shop_is_started_as_its_tutorial_says(page: Path) -> None:
    commands = (EXAMPLES / page.stem.replace("-", "_") / "README.md").read_text(encoding="utf-8")
    starts = re.findall(r"^(?:make|\.|\.venv/bin/(?!analytics)\S+) .*$", commands, re.MULTILINE)

    assert len(starts) >= 3
    for command in starts:
        assert command in read_commands(page).splitlines()
