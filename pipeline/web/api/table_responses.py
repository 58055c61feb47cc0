"""Responses of the stats API: JSON or CSV, with an ETag by which a client asks for changes only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.responses import Response

from pipeline.csv_tables import format_csv
from pipeline.web.headers import NO_SNIFFING, make_etag, matches_etag, parse_weights
from pipeline.web.responses import encode_json

# Any count may change at any moment: an event may be of any age, a user may be erased, a day
# rebuilt. So a client revalidates its copy before each use, which costs a read and no transfer.
REVALIDATE = "private, no-cache"
# A ranking is as of a flush, and says of which.
CACHE_SHORTLY = "private, max-age=5"


@dataclass(frozen=True)
class CsvTable:
    """A response as CSV: the file's name, its columns and its rows."""

    name: str
    columns: Sequence[str]
    rows: Iterable[Sequence[object]]

    def encode(self) -> bytes:
        """The table in UTF-8, its first line the columns."""
        return format_csv(self.columns, self.rows).encode()


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
