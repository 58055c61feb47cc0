"""The tables of the page about the metrics, made from the code: `make reference` writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipeline.measures import MEASURES
from pipeline.metrics.processes import PROCESS_METRICS
from pipeline.metrics.state import PREFIX, STATE_METRICS, StateMetric

_HEAD = "| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n"
_Row = tuple[str, str, str, str]


def update(page: str) -> str:
    """The page with the tables of its two sections as the code says. Raises ValueError where a
    section has none."""
    measured = (
        (one.name, "histogram" if one.buckets else "counter", ", ".join(one.labels), one.meaning)
        for one in MEASURES
    )
    page = _replace(page, "State", map(_row_of, STATE_METRICS))
    return _replace(page, "Processes", [*measured, *map(_row_of, PROCESS_METRICS)])


def _row_of(metric: StateMetric) -> _Row:
    return metric.name, metric.metric_type, metric.label, metric.meaning


def _replace(page: str, section: str, rows: Iterable[_Row]) -> str:
    table = _HEAD + "".join(
        f"| `{PREFIX}{' | '.join((f'{name}`', *rest))} |\n" for name, *rest in rows
    )
    found, times = re.subn(
        rf"(?s)(\n## {section}\n.*?\n\n)(?:\|[^\n]*\n)+", lambda one: one[1] + table, page, count=1
    )
    if not times:
        raise ValueError(f"the page has no table in a section {section}")
    return found
