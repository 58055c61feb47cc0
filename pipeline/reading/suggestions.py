"""Names that are most alike to one that was given: what was perhaps meant. Pure."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

_SHOWN_CHARACTERS = 80


def suggest(name: str, known: Collection[str]) -> str:
    """`did you mean …?` with the name that is most alike; empty when no name is."""
    found = find_alike(name, {one: one for one in known})
    return f"did you mean {show(found)}?" if found else ""


def suggest_combination(name: str, known: Collection[str]) -> str:
    """The same with properties that are counted together, in another order; empty where none
    are."""
    parts = sorted(name.split("+"))
    found = next((one for one in sorted(known) if sorted(one.split("+")) == parts), None)
    return f"did you mean {show(found)}?" if found else ""


def find_alike(name: str, known: dict[str, str]) -> str | None:
    """What stands under the name that is most alike, regardless of capitals; None when no name
    is."""
    by_folded = {one.casefold(): known[one] for one in sorted(known)}
    found = get_close_matches(name.casefold(), by_folded, 1, 0.7)
    return by_folded[found[0]] if found else None


def show(name: str) -> str:
    """A name from outside, cut when it is long."""
    return name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}…"
