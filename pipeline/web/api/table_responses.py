"""Responses of the stats API: JSON or CSV, with an ETag by which a client asks for changes only."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.responses import Response

from pipeline.web.headers import NO_SNIFFING, make_etag, matches_etag, parse_weights
from pipeline.web.responses import encode_json

# Any count may change at any moment: an event may be of any age, a user may be erased, a day
# rebuilt. So a client revalidates its copy before each use, which costs a read and no transfer.
REVALIDATE = "private, no-cache"
# A ranking is as of a flush, and says of which.
CACHE_SHORTLY = "private, max-age=5"

# At the beginning of a cell, or after what a spreadsheet may be set to take for the end of one.
_FORMULA = re.compile(r"(^|[;\t\r\n])(\s*)(?=[=+\-@＝＋－＠])")


@dataclass(frozen=True)
class CsvTable:
    """A response as CSV: the file's name, its columns and its rows."""

    name: str
    columns: Sequence[str]
    rows: Iterable[Sequence[object]]

    def encode(self) -> bytes:
        """The table in UTF-8, its first line the columns."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(self.columns)
        writer.writerows([_escape_formula(cell) for cell in row] for row in self.rows)
        return text.getvalue().encode()


def respond(
    request: Request, content: Any, table: CsvTable, cache_control: str = REVALIDATE
) -> Response:
    """The content as JSON, or the table where the request prefers CSV; 304 without a body where
    the client has it already."""
    headers = {"Cache-Control": cache_control, "Vary": "Accept, Authorization"}
    if _prefers_csv(request):
        body, media_type = table.encode(), "text/csv"
        headers["Content-Disposition"] = f'attachment; filename="{table.name}.csv"'
    else:
        body, media_type = encode_json(content), "application/json"
    etag = headers["ETag"] = make_etag(body)
    if matches_etag(etag, request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers | NO_SNIFFING, media_type=media_type)


def _prefers_csv(request: Request) -> bool:
    """Whether `format` says so, or, where it is left out, the Accept header prefers CSV to JSON."""
    wanted = request.query_params.get("format")
    if wanted is not None:
        return wanted == "csv"
    weights = parse_weights(request.headers.get("accept", ""))
    return weights.get("text/csv", 0.0) > weights.get("application/json", 0.0)


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
