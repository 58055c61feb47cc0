"""Answers of the stats API: JSON or CSV, with a tag by which a client asks whether they changed."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import Request
from starlette.responses import Response

# Any count may change at any moment: an event may be of any age, a user may be forgotten, a day
# rebuilt. So a copy is asked about before it is shown again, which costs a read and no transfer.
ALWAYS_ASK = "private, no-cache"
# A ranking is as of a flush, and says of which.
FOR_SECONDS = "private, max-age=5"

_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Table:
    """What an answer looks like as CSV: the file's name, its columns and its rows."""

    name: str
    columns: Sequence[str]
    rows: Iterable[Sequence[object]]


def answer(
    request: Request, content: Any, table: Table | None = None, cache: str = ALWAYS_ASK
) -> Response:
    """The content as JSON, or the table as CSV where the request wants that; 304 without a body
    where the client has it already."""
    headers = {"Cache-Control": cache, "Vary": "Accept, Authorization"}
    if table is not None and wants_csv(request):
        body, media_type = _csv(table), "text/csv"
        headers["Content-Disposition"] = f'attachment; filename="{table.name}.csv"'
    else:
        body, media_type = _encode(content), "application/json"
    tag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    headers["ETag"] = tag
    if _is_known(tag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    headers["X-Content-Type-Options"] = "nosniff"
    return Response(body, headers=headers, media_type=media_type)


def wants_csv(request: Request) -> bool:
    """Whether `format` says so, or, where it says nothing, the Accept header prefers CSV to
    JSON."""
    wanted = request.query_params.get("format")
    if wanted is not None:
        return wanted == "csv"
    accepted = request.headers.get("accept", "")
    if "text/csv" not in accepted:
        return False
    weights = dict(map(_weighted, accepted.split(",")))
    return weights["text/csv"] > weights.get("application/json", 0.0)


def _weighted(part: str) -> tuple[str, float]:
    name, *parameters = part.split(";")
    weight = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
    return name.strip().lower(), weight


def _csv(table: Table) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table.columns)
    writer.writerows([_harmless(cell) for cell in row] for row in table.rows)
    return text.getvalue().encode()


def _harmless(cell: object) -> object:
    """A spreadsheet runs text that begins like a formula; an apostrophe before it makes it text."""
    if isinstance(cell, str) and cell.startswith(_FORMULA_BEGINS):
        return f"'{cell}"
    return cell


def _is_known(tag: str, if_none_match: str | None) -> bool:
    if not if_none_match:
        return False
    tags = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    return tag in tags or "*" in tags
