"""How many people, and who comes back: from bitmaps, beside SQL on the rows."""

from __future__ import annotations

from benchmarks.contests.measures import people
from benchmarks.report.report import Comparison, Sense
from benchmarks.rows.contest import Contest

CONTESTS = (
    Contest(
        "people",
        people.measure,
        (
            Comparison(
                name="mau",
                what="users active in 30 closed days",
                ours="mau",
                rival="count-distinct",
                rival_is="count(DISTINCT user_id) on the same rows",
                unit="ms",
                sense=Sense.LESS_TIME,
                target=50,
            ),
            Comparison(
                name="retention",
                what="retention of 30 days by day",
                ours="retention",
                rival="self-join",
                rival_is="a join of the same rows with themselves, grouped by both days",
                unit="ms",
                sense=Sense.LESS_TIME,
                target=50,
            ),
        ),
    ),
)
