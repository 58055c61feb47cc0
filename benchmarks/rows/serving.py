"""The whole as its users meet it: over HTTP, and for minutes."""

from __future__ import annotations

from benchmarks.contests import sustained, web
from benchmarks.report.report import Comparison, Sense
from benchmarks.rows.contest import Contest

CONTESTS = (
    Contest(
        "web",
        web.measure,
        (
            Comparison(
                name="collector-bare",
                what="single events taken by POST /v1/track, 64 connections",
                ours="single",
                rival="bare",
                rival_is=(
                    "a bare Starlette route that parses the body and answers, same server and load"
                ),
                unit="requests/s",
                sense=Sense.MORE_A_SECOND,
                target=0.6,
            ),
            Comparison(
                name="collector-batches",
                what=(
                    "events from POST /v1/batch, 100 in each, to counted, one web and one worker "
                    "process"
                ),
                ours="batches",
                rival="wanted",
                rival_is="the rate to reach",
                unit="events/s",
                sense=Sense.MORE_A_SECOND,
                target=1,
            ),
            Comparison(
                name="api-count",
                what="p99 of GET /api/stats/count",
                ours="api",
                rival="stats",
                rival_is="the p99 of the same Stats call and of a bare route, added",
                unit="ms",
                sense=Sense.AT_MOST,
                target=2,
            ),
        ),
    ),
    Contest(
        "sustained",
        sustained.measure,
        (
            Comparison(
                name="sustained-rate",
                what="events sent for minutes, counted, flushed and archived meanwhile",
                ours="sent",
                rival="wanted",
                rival_is="the rate to reach",
                unit="events/s",
                sense=Sense.MORE_A_SECOND,
                target=1,
            ),
            *(
                Comparison(
                    name=f"sustained-{stage}",
                    what=f"furthest that {stage} fell behind meanwhile",
                    ours=stage,
                    rival="limit",
                    rival_is="two minutes",
                    unit="s",
                    sense=Sense.AT_MOST,
                    target=1,
                )
                for stage in ("counting", "flush", "archive")
            ),
        ),
    ),
)
