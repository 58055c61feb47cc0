"""Funnels on the archive, sealed days and open ones, are those that trying every path finds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from statistics import median

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from pipeline.postgres.journeys import BUCKET_BITS
from pipeline.postgres.sealing.events import pack_day
from pipeline.postgres.sealing.seals import seal
from pipeline.reading.conditions.matching import matches, split_properties
from pipeline.reading.journeys import parts
from pipeline.reading.journeys.funnels import FunnelQuestion, find_funnel
from pipeline.reading.journeys.steps import parse_steps, parse_window
from pipeline.services import Services
from tests.helpers.journeys.archive import Row, clear, put
from tests.unit.reading.journeys import brute_force

BEGIN = datetime(2025, 3, 12, tzinfo=UTC)
DAYS = [BEGIN.date() + timedelta(days=n) for n in range(4)]
STEPS = ("a", "b", 'a[p="x"]', 'b[p="x" or n > 1]', "c", "b[not p exists]")
RAW = (None, '{"p":"x"}', '{"p":"y","n":2}', '{"p":"x","o":"\\u0000"}', '{"n":1e400}')
events = st.tuples(
    st.sampled_from("abc"),
    st.integers(0, 95).map(lambda hours: BEGIN + timedelta(hours=hours)),
    st.sampled_from(["u1", "u2", "ü\U0001f600" * 100, None]),
    st.sampled_from(RAW),
)


def reached(
    rows: list[Row], question: FunnelQuestion, value: str | None = None
) -> list[tuple[int, float | None]]:
    """Users and median of each step; with a value, that of property `p` of the first step."""
    steps = parse_steps(question.steps)
    tried = []
    for event_type, at, user_id, raw in rows:
        own = split_properties(raw)
        mask = sum(
            1 << position
            for position, step in enumerate(steps)
            if step.event_type == event_type
            and (step.condition is None or matches(step.condition, own))
        )
        is_outside = not question.first <= at.date() <= question.last
        if is_outside or (value is not None and own.get("p") != f'"{value}"'):
            mask &= ~1
        if user_id is not None:
            tried.append((hash(user_id), int((at - BEGIN) / timedelta(hours=1)), mask))
    hours = parse_window(question.window) // timedelta(hours=1)
    found = brute_force.find_first_reached(tried, len(steps), hours, any_order=question.any_order)
    took = [
        [at - earlier[user] for user, at in step.items()]
        for earlier, step in zip([{}, *found], found, strict=False)
        if earlier or step is not found[0]
    ]
    medians = [None, *(median(hours) * 3600 if hours else None for hours in took)]
    return [(len(step), middle) for step, middle in zip(found, medians, strict=False)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(events, max_size=14),
    st.lists(st.sampled_from(STEPS), min_size=2, max_size=3).map(tuple),
    st.sampled_from(["1h", "5h", "1d", "3d"]),
    st.booleans(),
    st.sets(st.sampled_from(DAYS)),
)
def test_a_funnel_is_what_trying_every_path_finds(
    services: Services,
    rows: list[Row],
    steps: tuple[str, ...],
    window: str,
    any_order: bool,
    sealed: set[object],
) -> None:
    clear(services)
    put(services, rows)
    seal(services.engine, "events", sealed, pack_day)
    question = FunnelQuestion(steps, DAYS[1], DAYS[2], window, any_order, by="p")

    found = find_funnel(services.engine, question)

    assert [(step.users, step.median_s) for step in found.steps] == reached(rows, question)
    assert found.values is not None
    assert {value for value, _ in found.values} <= {"x", "y"}
    for value, own in found.values:
        wanted = reached(rows, question, value)
        assert [(step.users, step.median_s) for step in own] == wanted


def test_users_are_taken_in_parts(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "EVENTS_AT_ONCE", 3)
    rows: list[Row] = [
        (event_type, BEGIN + timedelta(hours=n), f"u{n % 9}", None)
        for n, event_type in enumerate("abcabc" * 6)
    ]
    put(services, rows)
    number = text("INSERT INTO analytics_user_numbers (number, user_id) VALUES (:number, :user_id)")
    with services.engine.begin() as connection:
        far_apart = [{"number": n << BUCKET_BITS, "user_id": f"u{n}"} for n in range(7)]
        connection.execute(number, far_apart)
    seal(services.engine, "events", DAYS[:1], pack_day)

    question = FunnelQuestion(("a", "b", "c"), DAYS[0], DAYS[1], "1d")
    found = find_funnel(services.engine, question)

    assert [(step.users, step.median_s) for step in found.steps] == reached(rows, question)
