"""`python -m benchmarks.report.readme RUN…`: put the tables of a run into the documentation, and
five of its rows into the README.

Each RUN is the results.json of a full run, in the order in which they were made. The figures are
those of benchmarks/results.json; the last column of the page has the ratios of all of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contests import growth
from benchmarks.contests.growth import Point
from benchmarks.report import report
from benchmarks.report.report import Row

_ROOT = Path(__file__).parents[2]
_MORE = 2
"""Runs from which on a column with all ratios says something."""
_ROWS, _GROWTH = "| what | ours |", "| live counters |"
_README = _ROOT / "README.md"
_PAGE = _ROOT / "docs" / "explanation" / "benchmarks.md"
IN_README = (
    "delay-celery",
    "tracker-celery",
    "worker-celery",
    "flush-executemany",
    "collector-batches",
)
"""Names of the rows that the README has: one of each part of the pipeline."""


def with_ratios(rows: Sequence[Row], runs: Sequence[Sequence[Row]]) -> list[str]:
    """The rows as lines of a Markdown table, with the ratio that each has in these runs."""
    head, line, *lines = report.markdown(rows)
    if len(runs) < _MORE:
        return [head, line, *lines]
    found = [{row.name: report.number(row.ratio) for row in run} for run in runs]
    ratios = [", ".join(run.get(row.name, "–") for run in found) for row in rows]
    with_them = [f"{row} {ratio} |" for row, ratio in zip(lines, ratios, strict=True)]
    return [f"{head} all {len(runs)} runs |", f"{line} --- |", *with_them]


def replace_table(text: str, begins: str, lines: Sequence[str]) -> str:
    """The text with these lines in place of the table whose first line begins so. Raises ValueError
    where there is none."""
    before, found, rest = text.partition(f"\n{begins}")
    if not found:
        raise ValueError(f"no table begins with {begins!r}")
    after = rest[rest.index("\n\n") :]
    return f"{before}\n" + "\n".join(lines) + after


def main() -> None:
    """Rewrite the page, and the table of the README."""
    shown = _read(_ROOT / "benchmarks" / "results.json")
    runs = [_rows(_read(Path(path))) for path in sys.argv[1:]]
    points = [Point(**point) for point in shown["growth"]["points"]]
    rows = _rows(shown)
    text = replace_table(_PAGE.read_text("utf-8"), _ROWS, with_ratios(rows, runs))
    _PAGE.write_text(replace_table(text, _GROWTH, growth.markdown(points)), "utf-8")
    short = report.markdown(choose_for_readme(rows))
    _README.write_text(replace_table(_README.read_text("utf-8"), _ROWS, short), "utf-8")


def choose_for_readme(rows: Sequence[Row]) -> list[Row]:
    """The rows that the README has."""
    return [row for row in rows if row.name in IN_README]


def _read(path: Path) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return run


def _rows(run: dict[str, Any]) -> list[Row]:
    return [Row(**one) for one in run["rows"]]


if __name__ == "__main__":
    main()
