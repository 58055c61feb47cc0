"""Numbers in JSON that comes from anywhere."""

from __future__ import annotations

from math import isinf


def parse_float(text: str) -> float:
    """A number of JSON, for a decoder's `float_hook`: msgspec's own way takes nine microseconds for
    `1e308`, hence 45 ms for an event of 32 KiB of them. This one takes 0.4 for any, where msgspec
    takes 0.03. Raises `ValueError` beyond what a float holds."""
    found = float(text)
    if isinf(found):
        raise ValueError(f"{text[:50]} is out of range")
    return found
