"""What commands print: results on standard output, all else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pipeline.csv_tables import format_csv

if TYPE_CHECKING:
    from rich.text import Text


def print_json(result: object) -> None:
    """Print the one object of a command with `--json`. What is not printable is escaped: a terminal
    would obey control characters, and show text that changes its direction as another."""
    text = json.dumps(result, ensure_ascii=False)
    if not text.isprintable():
        text = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    sys.stdout.write(text + "\n")


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print the one table of a command with `--csv`: a line of columns, then the rows. Text that a
    spreadsheet would run is escaped, numbers are plain. A terminal gets no control characters;
    files and pipes get every value as it is."""
    text = format_csv(columns, rows, line_end="\n")
    if sys.stdout.isatty():
        text = "".join(f"{_escape(line)}\n" for line in text.removesuffix("\n").split("\n"))
    sys.stdout.write(text)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; numbers are set to the right, with thousands apart. Long values are folded."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    rows = list(rows)
    for position, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[position], int) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    # Where no terminal sets a width, lines are left as long as they are.
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(Text(title, style="bold"))
    console.print(table)


def say(text: str) -> None:
    """Tell the user something on standard output; in a table's place, so not with `--json`."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Tell the user something that is no result. What is not printable is escaped, since it may
    repeat what was given; lines stay lines."""
    shown = "\n".join(_escape(line) for line in text.split("\n"))
    sys.stderr.write(f"analytics: {shown}\n")
    sys.stderr.flush()


def one_line(text: str, longest: int = 120) -> str:
    """Text from outside, fit to be shown: control characters escaped, cut when long."""
    shown = _escape(text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _cell(value: object) -> Text:
    from rich.text import Text

    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if not isinstance(value, int):
        # Text, not a string: names of events may hold what rich would take for markup.
        return Text("" if value is None else one_line(str(value), 1_000))
    return Text(f"{value:,}")
