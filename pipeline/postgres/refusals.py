"""What a Postgres error is about: its SQLSTATE, and whether a row, the server or the moment is at
fault.

A row that is at fault would be refused again, so it becomes a dead letter; for every other reason
what was to be stored is kept and tried again.
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

_ROW_REFUSED = ("22", "23", "54")
"""SQLSTATE classes that blame the row: data exception, integrity violation, a limit such as the
size of an index row."""
_SERVER_REFUSES = ("08", "25", "28", "3D", "42", "53", "57P", "58", "F0", "XX")
"""SQLSTATE classes under which every transaction fails until something changes at the server or in
front of it: connection lost, read-only or a timeout while idle, no access, no such database, no
such table or no permission, no disk space or memory, shutdown and start, input and output, its
files, itself."""
LOCK_TIMEOUT = "55P03"
_BAD_MOMENT = ("40", LOCK_TIMEOUT, "57014")
"""Deadlock and serialization, a lock timeout, a statement that took too long or was cancelled."""
READ_ONLY = "25006"
STALE_SESSION = (READ_ONLY, "26000", "42P05")
"""SQLSTATE that shows a connection to be of no more use, though it is open: it leads to a server
that is read-only now, or prepared statements of its own are not where it finds them."""
_TABLE_REFUSES = {
    "23502",  # a column of theirs needs a value
    "3F000",  # no such schema
    "42501",  # no right
    "42703",  # no such column
    "42804",  # a column of another type
    "42809",  # a view, say
    "42883",  # no operator for the type of a column
    "42P01",  # no such table
    "42P10",  # no such primary key
    "55000",  # a view that cannot be written to
}
"""SQLSTATEs that the tables of another version give, or those of another program."""


def read_sqlstate(error: DBAPIError) -> str:
    """The SQLSTATE of an error; empty when it has none, as when the connection was lost."""
    return getattr(error.orig, "sqlstate", None) or ""


def blames_row(error: DBAPIError) -> bool:
    """Whether Postgres refuses a row, so that a repeat with this row would fail too."""
    return read_sqlstate(error)[:2] in _ROW_REFUSED and not blames_table(error)


def is_about_server(error: DBAPIError) -> bool:
    """Whether any other transaction would fail as well at this moment."""
    state = read_sqlstate(error)
    if error.connection_invalidated or not state or blames_table(error):
        return True
    return state.startswith(_SERVER_REFUSES)


def is_about_timing(error: DBAPIError) -> bool:
    """Whether another transaction was in the way, so that a repeat may succeed at once."""
    return read_sqlstate(error).startswith(_BAD_MOMENT)


def blames_table(error: DBAPIError) -> bool:
    """Whether this is what comes of tables that are missing, old, new or not ours."""
    return read_sqlstate(error) in _TABLE_REFUSES
