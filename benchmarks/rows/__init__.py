"""Every row of the table: what is compared with what, how, and the ratio to reach."""

from __future__ import annotations

from benchmarks.rows import counting, journeys, people, serving, storing
from benchmarks.rows.contest import Contest

__all__ = ["CONTESTS", "GROWTH", "Contest", "chosen"]

CONTESTS = (
    *counting.CONTESTS,
    *storing.CONTESTS,
    *people.CONTESTS,
    *journeys.CONTESTS,
    *serving.CONTESTS,
)
GROWTH = "growth"
"""The name under which growth is chosen: it has points, not rows."""


def chosen(names: list[str]) -> list[Contest]:
    """The contests to hold: all, or those named or with a row that is named."""
    return [
        contest
        for contest in CONTESTS
        if not names or {contest.name, *(one.name for one in contest.comparisons)} & {*names}
    ]
