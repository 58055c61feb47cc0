"""The tutorials in `docs/tutorials`: their code, their commands, and what these print."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.helpers.support import ROOT

EXAMPLES = ROOT / "examples"
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))

_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code: its language, and the file of the project that it is taken from, if any."""

    language: str
    file: str
    text: str


def read_blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    return [Block(*found) for found in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def read_commands(page: Path) -> str:
    """What a reader runs in a shell, in order."""
    return "".join(one.text for one in read_blocks(page) if one[:2] == ("sh", ""))


def read_console(page: Path) -> Iterator[tuple[list[str], str]]:
    """The arguments of each `analytics` command whose output is shown, and that output."""
    for block in read_blocks(page):
        if block.language == "console":
            lines = block.text.splitlines(keepends=True)
            for command, output in zip(lines[::2], lines[1::2], strict=True):
                yield shlex.split(command.removeprefix("$ .venv/bin/analytics ")), output


def read_shop_settings() -> dict[str, str]:
    """The settings in `examples/shop.env`, without their prefix."""
    text = (EXAMPLES / "shop.env").read_text()
    return dict(re.findall(r"^export ANALYTICS_(\w+)='(.*)'$", text, re.MULTILINE))
