"""What a Postgres error is about: its SQLSTATE, and whether a row is at fault."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

_ROW_REFUSED = ("22", "23", "54")
"""SQLSTATE classes that blame the row: data exception, integrity violation, a limit such as the
size of an index row."""


def read_sqlstate(error: DBAPIError) -> str:
    """The SQLSTATE of an error; empty when it has none, as when the connection was lost."""
    return getattr(error.orig, "sqlstate", None) or ""


def blames_row(error: DBAPIError) -> bool:
    """Whether Postgres refuses a row, so that a repeat with this row would fail too."""
    return read_sqlstate(error)[:2] in _ROW_REFUSED
