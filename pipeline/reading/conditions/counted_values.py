"""A property's value from the archive as it is counted: by the text that rankings show."""

from __future__ import annotations

from pipeline.counting.increments import CUT_MARK, MAX_VALUE_CHARACTERS, encode_value
from pipeline.reading.conditions.matching import read_text
from pipeline.reading.conditions.sql import Binder, write_text

_MARK = "\uffff"
"""What `encode_value` doubles; a NUL, in whose place it stands, is only in what is `ODD`."""


def read_counted(raw: str | None) -> str | None:
    """The value of this JSON as it is counted; None where it is absent or null."""
    text = read_text(raw)
    return None if text is None else encode_value(text)


def write_counted(name: str, binder: Binder) -> str:
    """The same in SQL, for events that are not `ODD`."""
    text, most = write_text(name, binder), MAX_VALUE_CHARACTERS
    cut = f"left({text}, {most}) || {binder.bind(CUT_MARK, 'TEXT')}"
    shown = f"CASE WHEN length({text}) > {most} THEN {cut} ELSE {text} END"
    marked = binder.bind(f"{_MARK}1", "TEXT")
    return f"replace({shown}, {binder.bind(_MARK, 'TEXT')}, {marked})"
