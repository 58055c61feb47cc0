"""Retention with conditions is what counting by hand finds, on sealed days and open ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import InvalidQuestion
from pipeline.postgres.sealing.events import pack_day
from pipeline.postgres.sealing.seals import seal
from pipeline.reading.journeys.retention import RetentionQuestion, find_retention
from pipeline.services import Services
from tests.helpers.journeys.archive import Row, clear, put

BEGIN = datetime(2025, 3, 8, tzinfo=UTC)  # a Saturday
DAYS = [BEGIN.date() + timedelta(days=n) for n in range(5)]
events = st.tuples(
    st.sampled_from("ab"),
    st.integers(0, 5 * 24 - 1).map(lambda hours: BEGIN + timedelta(hours=hours)),
    st.sampled_from(["u1", "u2", "u3", None]),
    st.sampled_from([None, '{"p":"x"}', '{"p":"x","o":"\\u0000"}']),
)


def count_by_hand(rows: list[Row], question: RetentionQuestion) -> list[dict[str, object]]:
    """The cohorts of steps `a[p="x"]` and `b`, or of any other of that condition."""
    periods = question.list_periods()

    def find(step: str) -> list[set[str]]:
        found: list[set[str]] = [set() for _ in periods]
        for event_type, at, user_id, raw in rows:
            fits = event_type == step[0] and ("[" not in step or (raw is not None and "p" in raw))
            if fits and user_id is not None and question.first <= at.date() <= question.last:
                period = max(n for n, day in enumerate(periods) if day <= at.date())
                found[period].add(user_id)
        return found

    starts, returns = find(question.start), find(question.return_)
    return [
        {
            "start": period.isoformat(),
            "users": len(users),
            "returned": [len(users & later) for later in returns[at:]],
        }
        for at, (period, users) in enumerate(zip(periods, starts, strict=True))
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.lists(events, max_size=12),
    st.sampled_from(["a", 'a[p="x"]']),
    st.sampled_from(["b", 'b[p="x"]', 'a[p="x"]']),
    st.sampled_from(["day", "week", "month"]),
    st.sets(st.sampled_from(DAYS)),
)
def test_a_retention_is_what_counting_by_hand_finds(
    services: Services, rows: list[Row], start: str, return_: str, by: str, sealed: set[object]
) -> None:
    clear(services)
    put(services, rows)
    seal(services.engine, "events", sealed, pack_day)  # type: ignore[arg-type]
    question = RetentionQuestion(start, return_, by, DAYS[1], DAYS[3])

    found = find_retention(services.engine, question).describe()

    assert found["cohorts"] == count_by_hand(rows, question)


@pytest.mark.parametrize(
    ("start", "return_", "by", "days", "field"),
    [
        ("a[p]", "b", "day", 1, "start"),
        ("a", "b[", "day", 1, "return"),
        ("a", "b", "year", 1, "by"),
        ("a", "b", "day", 401, "by"),
    ],
)
def test_a_retention_without_an_answer_is_refused(
    start: str, return_: str, by: str, days: int, field: str
) -> None:
    with pytest.raises(InvalidQuestion) as refused:
        RetentionQuestion(start, return_, by, DAYS[0], DAYS[0] + timedelta(days=days - 1))

    assert refused.value.field == field
