"""The page that describes the way of an event, docs/explanation/life-of-an-event.md: read and
brought up to date."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.path.following import ROOT
from tests.path.stops import PROCESSES, Stop, summarize

PAGE = ROOT / "docs" / "explanation" / "life-of-an-event.md"
TODO = "TODO"
_HEADINGS = {
    "caller": "## In the caller's process",
    "events": "## In an event worker",
    "flush": "## In a flush worker",
}
_TABLE = "| stop | what happens there | a crash there |\n| --- | --- | --- |\n"
_ROW = re.compile(r"^\| `([^`]+)` \| (.+) \| (.+) \|$", re.MULTILINE)
_ROWS = re.compile(re.escape(_TABLE) + r"(?:\|.*\n)*")
_NUMBERS = re.compile(r"\bstops \d+, files \d+, lines \d+\b")


@dataclass(frozen=True)
class Row:
    """A stop as the page has it."""

    process: str
    title: str
    what: str
    crash: str


def rows_of(page: str) -> list[Row]:
    """All rows, in the page's order."""
    return [
        Row(process, *found)
        for process in PROCESSES
        for found in _ROW.findall(_section(page, process))
    ]


def numbers_of(page: str) -> list[str]:
    """What the page says about the number of stops, files and lines, as `make path` prints it."""
    return _NUMBERS.findall(page)


def update(page: str, stops: Sequence[Stop]) -> tuple[str, list[Row]]:
    """The page with these stops and their numbers, and the rows that it no longer has.

    Rows keep their texts; those that are new have `TODO` in their place. So has the crash of a row
    that comes in another process now.
    """
    known = {row.title: row for row in rows_of(page)}
    for process in PROCESSES:
        section = _section(page, process)
        table = _TABLE + "".join(_lines(process, stops, known))
        page = page.replace(section, _ROWS.sub(lambda _, table=table: table, section, count=1))
    titles = {stop.title for stop in stops}
    gone = [row for title, row in known.items() if title not in titles]
    return _NUMBERS.sub(summarize(stops), page), gone


def _lines(process: str, stops: Sequence[Stop], known: dict[str, Row]) -> Iterator[str]:
    for stop in stops:
        if stop.process == process:
            row = known.get(stop.title, Row(process, stop.title, TODO, TODO))
            crash = row.crash if row.process == process else TODO
            yield f"| `{row.title}` | {row.what} | {crash} |\n"


def _section(page: str, process: str) -> str:
    """The text from the heading of a process to the next heading."""
    begin = page.index(_HEADINGS[process] + "\n")
    end = page.find("\n## ", begin + 1)
    return page[begin : end if end >= 0 else len(page)]
