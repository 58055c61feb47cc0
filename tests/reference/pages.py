"""Every page of reference that is made from the code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.metrics.page import update
from tests.reference import commands, errors, python_api, redis_keys, routes, settings, tables

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
_METRICS = REFERENCE / "metrics.md"


def make_metrics() -> str:
    """The page of the metrics, whose tables alone are made."""
    return update(_METRICS.read_text(encoding="utf-8"))


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings.make,
    "commands.md": commands.make,
    "metrics.md": make_metrics,
    "http-api.md": routes.make,
    "python-api.md": python_api.make,
    "redis-keys.md": redis_keys.make,
    "tables.md": tables.make,
    "errors.md": errors.make,
}
"""File name -> what makes its text."""
