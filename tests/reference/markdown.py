"""Markdown of the pages of reference."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from posixpath import relpath

_HERE = "docs/reference"
_PAGE = re.compile(r"\bdocs/[\w/-]+\.md")
_NOTE = "<!-- Made from the code by `make reference`. -->"


def page(title: str, *parts: str) -> str:
    """A page with these parts below its title."""
    return "\n\n".join([f"# {title}", _NOTE, *(part.strip("\n") for part in parts)]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its cells are Markdown, on one line each."""
    lines = [_line(head), _line(["---"] * len(head)), *(_line(row) for row in rows)]
    return "\n".join(lines)


def code(text: str) -> str:
    """The text as code in a line, or nothing."""
    return f"`{text}`" if text else ""


def flow(text: str | None) -> str:
    """The paragraphs of a docstring, each on one line, in which no `<` begins HTML."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text or ""))
    text = "\n\n".join(_escape(" ".join(one.split())) for one in paragraphs).strip()
    return _PAGE.sub(lambda found: f"[{found[0]}]({relpath(found[0], _HERE)})", text)


def first_paragraph(text: str | None) -> str:
    """The first of the paragraphs of a docstring, on one line."""
    return flow(text).partition("\n\n")[0]


def _escape(text: str) -> str:
    pieces = text.split("`")
    pieces[::2] = [
        piece.replace("<", "&lt;").replace("__", r"\_\_").replace("*", r"\*")
        for piece in pieces[::2]
    ]
    return "`".join(pieces)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
