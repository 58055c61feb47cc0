"""Redis keys: no input reaches another key, and every counter's name leads back to what made it."""

from __future__ import annotations

from collections import Counter as Counts
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.days import hour_text
from pipeline.redis.counters import (
    Counter,
    DailyCounter,
    GapCounter,
    HourlyCounter,
    UserCounter,
    ValueCounter,
)
from pipeline.redis.keys import BUCKETS, PAD, Keys, bucket_of, escape, value_field

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)
# What could end, split or continue a segment, often.
tricky = st.text(st.sampled_from(":%{} \n*?[]\\^-a5é\u2028"), min_size=1, max_size=6)
segments = texts | tricky
hours = st.datetimes().map(lambda at: at.replace(minute=0, second=0, microsecond=0, tzinfo=UTC))
counters = (
    st.builds(DailyCounter, segments, st.dates())
    | st.builds(HourlyCounter, segments, hours)
    | st.builds(UserCounter, segments, segments, st.dates())
    | st.builds(ValueCounter, segments, segments, segments, st.dates())
    | st.builds(GapCounter, segments, st.sampled_from(["off", "full"]), hours)
)


def name_of(counter: Counter, keys: Keys) -> str:
    match counter:
        case DailyCounter(event_type, day):
            return keys.daily(event_type, f"{day}")
        case HourlyCounter(event_type, hour):
            return keys.hourly(event_type, hour_text(hour))
        case UserCounter(user_id, event_type, day):
            return keys.user(user_id, event_type, f"{day}")
        case GapCounter(event_type, reason, hour):
            return keys.gap(event_type, reason, hour_text(hour))
        case ValueCounter(event_type, property_name, value, day):
            return keys.value(event_type, property_name, value, f"{day}")


@given(counters, st.sampled_from(["analytics:", "a:b:", "x-1_y.z:"]))
@example(HourlyCounter("a", datetime(1, 1, 1, tzinfo=UTC)), "analytics:")
@example(DailyCounter("2025-01-01", date(2025, 1, 1)), "analytics:")
def test_the_name_of_a_counter_parses_back_to_what_made_it(counter: Counter, prefix: str) -> None:
    keys = Keys(prefix)
    assert keys.parse(name_of(counter, keys)) == counter


@given(counters, counters)
@example(UserCounter("a", "b:c", date.min), UserCounter("a:b", "c", date.min))
@example(DailyCounter("a%3A", date.min), DailyCounter("a:", date.min))
def test_two_counters_never_share_a_name(one: Counter, other: Counter) -> None:
    keys = Keys()
    assert (name_of(one, keys) == name_of(other, keys)) == (one == other)


@given(counters)
def test_no_counter_has_the_name_of_another_key(counter: Counter) -> None:
    keys = Keys()
    name = name_of(counter, keys)
    others = [
        keys.inflight,
        keys.live,
        keys.seen_event,
        keys.seen_task,
        keys.producer(""),
        "analytics:values:",
        "analytics:events:",
    ]
    assert name not in vars(keys).values()
    assert not name.startswith(tuple(others))


@given(counters, st.sampled_from(["analytics:", "a:b:", "x-1_y.z:"]))
def test_the_field_of_a_counter_leads_back_to_its_name(counter: Counter, prefix: str) -> None:
    keys = Keys(prefix)
    name = name_of(counter, keys)
    place = keys.field_of(name)
    if not isinstance(counter, UserCounter | ValueCounter):
        assert place is None
        return
    assert place is not None
    bucket, field = place
    assert 0 <= bucket < BUCKETS
    assert keys.name_of(field) == name
    assert keys.field_in_bucket(name) == field
    assert field != PAD


@given(counters, counters)
@example(UserCounter("a", "b", date.min), ValueCounter("a", "b", "c", date.min))
@example(UserCounter("a", "b:c", date.min), ValueCounter("a", "b", "c", date.min))
def test_two_counters_never_share_a_field(one: Counter, other: Counter) -> None:
    keys = Keys()
    places = [keys.field_of(name_of(counter, keys)) for counter in (one, other)]
    assert (places[0] == places[1]) == (one == other) or places == [None, None]


@given(segments, segments, segments, st.dates(), st.dates())
def test_the_counters_of_a_user_or_of_a_value_are_in_one_bucket(
    first: str, second: str, third: str, day: date, other_day: date
) -> None:
    keys = Keys()
    of_user = [keys.field_of(keys.user(first, kind, f"{day}")) for kind in (second, third)]
    of_value = [keys.field_of(keys.value(first, second, third, f"{at}")) for at in (day, other_day)]
    assert {place[0] for place in of_user if place} == {bucket_of(escape(first))}
    value_bucket, field = value_field(first, second, third, f"{day}")
    assert of_value[0] == (value_bucket, field)
    assert {place[0] for place in of_value if place} == {value_bucket}


def test_the_bucket_of_a_counter_is_the_same_in_every_version() -> None:
    """Another one would lose sight of what Redis holds already."""
    users = {name: bucket_of(name) for name in ("u1", "u2", "é", "a%20b", "\udcff")}
    assert BUCKETS == 16
    assert users == {"u1": 6, "u2": 12, "é": 14, "a%20b": 5, "\udcff": 0}


def test_counters_are_spread_over_all_buckets() -> None:
    held = Counts(bucket_of(f"u{n}") for n in range(16_000))
    assert len(held) == BUCKETS
    assert 800 < min(held.values()) <= max(held.values()) < 1_200


@given(segments)
def test_a_segment_contains_nothing_that_ends_one_or_chooses_a_cluster_slot(text: str) -> None:
    name = Keys().daily(text, "2025-01-01")
    segment = name.removeprefix("analytics:counter:").removesuffix(":2025-01-01")
    assert not set(segment) & set(":{} \n\t\u2028")


def test_names_are_those_of_the_documents() -> None:
    keys = Keys()
    assert [
        keys.daily("page_view", "2025-03-14"),
        keys.hourly("page_view", "2025-03-14:15"),
        keys.user("u1", "page_view", "2025-03-14"),
        keys.value("page_view", "path", "/a b", "2025-03-14"),
        keys.values("page_view", "path", "2025-03-14"),
        keys.gap("page_view", "full", "2025-03-14:15"),
        keys.events(0),
        keys.live_buckets[3],
        keys.journal_buckets("b1")[3],
    ] == [
        "analytics:counter:page_view:2025-03-14",
        "analytics:counter:page_view:2025-03-14:15",
        "analytics:user:u1:page_view:2025-03-14",
        "analytics:dim:page_view:path:/a%20b:2025-03-14",
        "analytics:values:page_view:path:2025-03-14",
        "analytics:gap:page_view:full:2025-03-14:15",
        "analytics:events:0",
        "analytics:live:3",
        "analytics:inflight:b1:3",
    ]


@pytest.mark.parametrize("days", [0, 1, 999 * 365, 3_000_000])
def test_the_text_of_an_hour_has_ten_digits_in_any_year(days: int) -> None:
    at = datetime(1, 1, 1, 7, 30, tzinfo=UTC) + timedelta(days=days)
    assert hour_text(at) == f"{at.year:04}-{at.month:02}-{at.day:02}:07"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "analytics:",
        "analytics:counter",
        "analytics:counter:a",
        "analytics:counter:a:yesterday",
        "analytics:counter:a:2025-02-30",
        "analytics:counter:a:2025-01-01:24",
        "analytics:counter:a:2025-01-01:05:06",
        "analytics:user:u:2025-01-01",
        "analytics:dim:a:p:2025-01-01",
        "analytics:values:a:p:2025-01-01",
        "analytics:totals",
        "analytics:gap:a:other:2025-01-01:05",
        "analytics:gap:a:full:2025-01-01",
        "analytics:events:0",
        "analytics:counter:%FF:2025-01-01",
        "analytics:counter:\udcff:2025-01-01",
        "analytics:counter:a%00:2025-01-01",
        "analytics:counter:a\x00:2025-01-01",
        "other:counter:a:2025-01-01",
    ],
    ids=ascii,
)
def test_what_is_no_counter_of_ours_is_refused(name: str) -> None:
    keys = Keys()
    with pytest.raises(ValueError, match=r"."):
        keys.parse(name)
    assert not keys.is_counter(name)
