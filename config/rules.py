"""What a setting's annotation and bounds ask for, in words."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import get_args

from pydantic.fields import FieldInfo


def rule(field: FieldInfo) -> str:
    """What a field's annotation and bounds ask for, in words."""
    default = field.get_default(call_default_factory=True)
    types = [kind for kind in get_args(field.annotation) if kind is not NoneType]
    bounds = {
        name: getattr(item, name)
        for item in field.metadata
        for name in ("ge", "gt", "le", "max_length")
        if hasattr(item, name)
    }
    if isinstance(default, int | float):
        kind = "a whole number" if field.annotation is int else "a number"
        return f"must be {kind} {_range(bounds)} (default {default})"
    if types and all(isinstance(kind, str) for kind in types):
        return f"must be one of: {', '.join(types)} (default {default})"
    if "max_length" in bounds:
        return f"must have at most {bounds['max_length']} characters (default {default})"
    return 'must be a JSON object of lists of names, such as {"page_view": ["path"]}'


def _range(bounds: Mapping[str, float]) -> str:
    lowest = f"above {bounds['gt']}" if "gt" in bounds else f"of {bounds['ge']} or more"
    return f"{lowest}, at most {bounds['le']}" if "le" in bounds else lowest
