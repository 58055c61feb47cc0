"""Questions about the archive."""

from __future__ import annotations

from benchmarks.contests.measures import funnels
from benchmarks.report.report import Comparison, Sense
from benchmarks.rows.contest import Contest

CONTESTS = (
    Contest(
        "funnel",
        funnels.measure,
        (
            Comparison(
                name="funnel",
                what="funnel of three steps over archived events",
                ours="funnel",
                rival="sql",
                rival_is="the analyst's SQL for the same numbers, with window functions",
                unit="s",
                sense=Sense.LESS_TIME,
                target=3,
            ),
        ),
    ),
)
