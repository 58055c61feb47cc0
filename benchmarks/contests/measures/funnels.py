"""A funnel of three steps over archived events, beside the SQL that a competent analyst writes for
the same numbers. Both are given the events at rest: closed days are sealed, tables are analysed."""

from __future__ import annotations

import time
from datetime import date, timedelta

from sqlalchemy import text

from benchmarks.report.report import Measured
from benchmarks.stage.stage import Stage
from pipeline.days import bound_days, list_days, today
from pipeline.postgres import partitions
from pipeline.postgres.sealing.events import pack_day
from pipeline.postgres.sealing.seals import seal
from pipeline.postgres.tables import events
from pipeline.reading.journeys.funnels import FunnelQuestion

DAYS = 10
EVENTS_OF_A_USER = 10
_ROUNDS = 2
# Of ten events six are views, three go to the cart and one buys, by users in no order.
_FILL = text(
    "INSERT INTO schema$.events (event_type, timestamp, user_id, properties) "
    "SELECT CASE WHEN n % 10 > 8 THEN 'buy' WHEN n % 10 > 5 THEN 'cart' ELSE 'view' END, "
    "CAST(:begin AS TIMESTAMPTZ) + n * (CAST(:length AS INTERVAL) / :events), "
    "'user-' || (hashint4(n) & 2147483647) % CAST(:users AS INTEGER), CAST(:properties AS JSON) "
    "FROM generate_series(0, :events - 1) AS n"
)
_ANALYST = text(
    "WITH viewed AS (SELECT user_id, timestamp AS t, event_type, max(timestamp) "
    "FILTER (WHERE event_type = 'view' AND timestamp < :end) OVER earlier AS start "
    "FROM schema$.events WHERE event_type IN ('view', 'cart', 'buy') AND user_id IS NOT NULL "
    "AND timestamp >= :begin AND timestamp < :end + CAST(:window AS INTERVAL) "
    "WINDOW earlier AS (PARTITION BY user_id ORDER BY timestamp "
    "RANGE BETWEEN UNBOUNDED PRECEDING AND '1 microsecond' PRECEDING)), "
    "carted AS (SELECT *, CASE WHEN event_type = 'cart' "
    "AND t - start <= CAST(:window AS INTERVAL) THEN start END AS carted FROM viewed), "
    "bought AS (SELECT *, max(carted) OVER (PARTITION BY user_id ORDER BY t "
    "RANGE BETWEEN UNBOUNDED PRECEDING AND '1 microsecond' PRECEDING) AS begun FROM carted), "
    "firsts AS (SELECT min(t) FILTER (WHERE event_type = 'view' AND t < :end) AS one, "
    "min(t) FILTER (WHERE carted IS NOT NULL) AS two, min(t) FILTER (WHERE event_type = 'buy' "
    "AND t - begun <= CAST(:window AS INTERVAL)) AS three FROM bought GROUP BY user_id) "
    "SELECT count(one), count(two), count(three), "
    "percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM two - one)), "
    "percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM three - two)) FROM firsts"
)
_CLEAR = text(
    "TRUNCATE schema$.analytics_day_events, schema$.analytics_seals, schema$.analytics_user_numbers"
)


def measure(stage: Stage) -> Measured:
    """Seconds that a funnel takes, ours and the analyst's, who must find the same."""
    first = today() - timedelta(days=DAYS)
    days = list_days(first, first + timedelta(days=DAYS - 1))
    stage.say("filling the archive for a funnel")
    sealed_s = _fill(stage, days)
    question = FunnelQuestion(("view", "cart", "buy"), days[0], days[-1], "2d")

    def ask() -> list[float]:
        steps = stage.services.stats.funnel(question).steps
        return [float(one.users) for one in steps] + [one.median_s or 0.0 for one in steps[1:]]

    found = {"funnel": list[float](), "sql": list[float]()}

    def time_ours() -> float:
        began = time.perf_counter()
        found["funnel"] = ask()
        return time.perf_counter() - began

    def time_analyst() -> float:
        began = time.perf_counter()
        found["sql"] = _ask_analyst(stage, days)
        return time.perf_counter() - began

    samples = stage.interleave({"funnel": time_ours, "sql": time_analyst}, _ROUNDS)
    if [round(n, 3) for n in found["funnel"]] != [round(n, 3) for n in found["sql"]]:
        raise RuntimeError(f"the funnel and the analyst differ: {found}")
    with stage.services.engine.begin() as connection:
        connection.execute(_CLEAR)
    return Measured(
        samples,
        {
            "funnel": f"{stage.sizes.funnel_events:,} events of {DAYS} days and a tenth as many "
            f"users; both find the same users and medians. Sealing them took {sealed_s:.0f} s, "
            "which maintenance does when a day is over. The analyst's session has 256 MB to sort."
        },
    )


def _fill(stage: Stage, days: list[date]) -> float:
    engine, n = stage.services.engine, stage.sizes.funnel_events
    partitions.ensure_days(engine, events, {f"{day}": 1 for day in days[:8]}, today())
    partitions.ensure_days(engine, events, {f"{day}": 1 for day in days[8:]}, today())
    begin, end = bound_days(days[0], days[-1])
    values = {
        "begin": begin,
        "length": end - begin,
        "events": n,
        "users": n // EVENTS_OF_A_USER,
        "properties": '{"path": "/pricing", "referrer": "search", "duration_ms": 1250}',
    }
    with engine.begin() as connection:
        connection.execute(_FILL, values)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE schema$.events"))
    began = time.perf_counter()
    if seal(engine, "events", days, pack_day) != days:
        raise RuntimeError("the days of the funnel could not be sealed")
    return time.perf_counter() - began


def _ask_analyst(stage: Stage, days: list[date]) -> list[float]:
    begin, end = bound_days(days[0], days[-1])
    with stage.services.engine.begin() as connection:
        connection.execute(text("SET LOCAL work_mem = '256MB'"))
        values = {"begin": begin, "end": end, "window": timedelta(days=2)}
        return [float(one) for one in connection.execute(_ANALYST, values).one()]
