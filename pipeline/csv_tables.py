"""Tables as CSV that a spreadsheet opens without running what is in it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

# At the beginning of a cell, or after what a spreadsheet may be set to take for the end of one.
_FORMULA = re.compile(r"(^|[;\t\r\n])(\s*)(?=[=+\-@＝＋－＠])")


def format_csv(
    columns: Sequence[str], rows: Iterable[Sequence[object]], line_end: str = "\r\n"
) -> str:
    """A table as CSV, its first line the columns; numbers are plain, None is an empty cell.

    Lines end as RFC 4180 has it, or as `line_end` says.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=line_end)
    writer.writerow(columns)
    writer.writerows([_escape_formula(cell) for cell in row] for row in rows)
    return text.getvalue()


def _escape_formula(cell: object) -> object:
    """A spreadsheet runs text that begins like a formula; an apostrophe before it makes it text.

    White space before a formula does not hinder it, and neither do quotes around the cell where
    columns are parted by something else than commas.
    """
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\x00", "\N{SYMBOL FOR NULL}")  # many programs read no further than a NUL
    escaped = _FORMULA.sub(r"\1'\2", cell)
    return f"'{cell}" if escaped == cell and cell.startswith(("\t", "\r", "\n")) else escaped
