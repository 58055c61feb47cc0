"""Texts that viewers share: plain, of one line, and bounded. Pure."""

from __future__ import annotations

import unicodedata

from pipeline.errors import InvalidEntry


def check_text(field: str, text: str, longest: int) -> str:
    """The text without spaces around it. Raises `InvalidEntry` where it is empty, too long, or of
    more than one line."""
    text = text.strip()
    if not text:
        raise InvalidEntry(field, "is empty: write something")
    if len(text) > longest:
        raise InvalidEntry(field, f"has {len(text)} characters; at most {longest} are kept")
    # Controls, and halves of characters, which no UTF-8 can hold.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise InvalidEntry(field, "has control characters: write one line of text")
    return text
