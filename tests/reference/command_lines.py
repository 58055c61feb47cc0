"""The command lines of README and docs: where they stand, and the programs that they start."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")])
PAGES_RUN = (
    "README.md",
    "docs/guides/reading/command-line.md",
    "docs/guides/data/raw-events.md",
    "docs/guides/data/erasing.md",
)
"""Pages of which every `analytics` command is run, by tests/acceptance/commands/test_cli_up.py."""

_FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"(?:^|[ \t]+)#.*$", re.MULTILINE)
_ASSIGNMENT = re.compile(r"[A-Z_]+=")
_INLINE = re.compile(r"`(?:\.venv/bin/)?((?:analytics|celery|make|python -m) [^`]+)`")
_ENDS = {"|", "&&", ";", "||"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str


def blocks() -> Iterator[Block]:
    """Every fenced block."""
    for page in PAGES:
        for _, language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
            yield Block(f"{page.relative_to(ROOT)}", language, text)


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Page and words of each command in a shell block: of a pipe, of `$(…)` and of what `kubectl
    exec` and `systemd-run` start too. Assignments before it are left out."""
    for block in blocks():
        if block.language not in {"sh", "console"}:
            continue
        text = block.text
        if block.language == "console":
            text = "".join(f"{line[2:]}\n" for line in text.splitlines() if line[:2] == "$ ")
        for words in split_commands(text):
            yield block.page, words


def inline_commands() -> Iterator[tuple[str, str]]:
    """Page and text of each command that stands as code within a sentence."""
    for page in PAGES:
        text = _FENCE.sub("", page.read_text(encoding="utf-8"))
        for command in _INLINE.findall(text):
            yield f"{page.relative_to(ROOT)}", " ".join(command.split())


def split_commands(text: str) -> Iterator[list[str]]:
    """The words of each simple command of a script."""
    text, substituted = _take_substitutions(text)
    for inner in substituted:
        yield from split_commands(inner)
    text = _COMMENT.sub("", text.replace("\\\n", " "))
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|;&\n")
    lexer.whitespace, lexer.commenters = " \t", ""
    lexer.whitespace_split = True
    words: list[str] = []
    for token in lexer:
        if token in _ENDS or not token.strip("\n"):
            yield from _without_assignments(words)
            words = []
        else:
            words.append(token)
    yield from _without_assignments(words)


def _take_substitutions(text: str) -> tuple[str, list[str]]:
    """The script with `VALUE` for each `$(…)`, and what was in these."""
    found = []
    while "$(" in text:
        before, _, rest = text.partition("$(")
        depth, end = 1, 0
        while depth:
            depth += {"(": 1, ")": -1}.get(rest[end], 0)
            end += 1
        found.append(rest[: end - 1])
        text = f"{before}VALUE{rest[end:]}"
    return text, found


def _without_assignments(words: list[str]) -> Iterator[list[str]]:
    while words and _ASSIGNMENT.match(words[0]):
        words = words[1:]
    if words:
        yield words
        if words[0] in {"kubectl", "systemd-run"} and "--" in words:
            yield words[words.index("--") + 1 :]
        elif words[0] == "systemd-run":
            yield next(words[at:] for at, word in enumerate(words) if word.startswith("/"))
