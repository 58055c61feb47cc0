"""From events to increments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.counting.increments import CUT_MARK, Increments, count
from pipeline.event.model import Event
from pipeline.options import CountBy
from pipeline.redis.keys import BUCKETS, QUARTERS, Keys, bucket_of
from tests.helpers.support import NOW, event

PATHS: CountBy = {"page_view": ["path"]}


def increments(*events: Event, count_by: CountBy = PATHS) -> Increments:
    return count(events, count_by, Keys(), NOW)


def users(*events: Event) -> dict[str, int]:
    """The increments of users' fields, of all buckets."""
    found = increments(*events).fields
    return {field: n for bucket in range(BUCKETS) for field, n in found.get(bucket, {}).items()}


def quarters(*events: Event) -> dict[str, int]:
    """The increments of quarter hours."""
    return increments(*events).fields[QUARTERS]


def values(*properties: dict[str, Any] | None, count_by: CountBy = PATHS) -> dict[str, int]:
    """The counted values, each with its count."""
    found = increments(*[event(properties=one) for one in properties], count_by=count_by)
    return {value: n for group in found.values for value, _, _, n in group.counters}


def test_an_event_counts_its_type_for_the_day_and_for_the_quarter_hour() -> None:
    assert increments(event()).counters == {"analytics:counter:page_view:2025-03-14": 1}
    assert quarters(event()) == {"quarter:page_view:2025-03-14:15:00": 1}
    assert increments(event()).hours == {("page_view", "2025-03-14:15"): 1}


def test_an_event_counts_its_user_for_the_day() -> None:
    assert users(event(user_id="u1")) == {"u1:page_view:2025-03-14": 1}


def test_the_counters_of_a_user_are_in_one_bucket_which_is_that_of_the_escaped_id() -> None:
    events = [event(kind, user_id="a b:c") for kind in ("page_view", "click")]
    found = increments(*events).fields
    assert found == {
        QUARTERS: found[QUARTERS],
        bucket_of("a%20b%3Ac"): {
            "a%20b%3Ac:page_view:2025-03-14": 1,
            "a%20b%3Ac:click:2025-03-14": 1,
        },
    }


def test_every_counter_is_in_the_bucket_in_which_it_is_looked_for() -> None:
    texts = [*"ab:%{}é语", "a b", "a:b", "%41", "\U0001f600"]
    events = [event(user_id=one, properties={"path": one}) for one in texts]
    found = increments(*events)
    held = {field: bucket for bucket, fields in found.fields.items() for field in fields}
    [group] = found.values
    held |= {field: bucket for _, bucket, field, _ in group.counters}
    held[group.rest_field] = group.rest_bucket
    keys = Keys()
    assert len(held) == 2 * len(texts) + 2
    for field, bucket in held.items():
        assert keys.field_of(keys.name_of(field)) == (bucket, field)


def test_many_events_are_summed_into_one_increment_a_counter() -> None:
    late = NOW.replace(hour=23, minute=59)
    events = [event(user_id="u1"), event(user_id="u1"), event(user_id="u2", timestamp=late)]
    assert increments(*events).counters == {"analytics:counter:page_view:2025-03-14": 3}
    assert quarters(*events) == {
        "quarter:page_view:2025-03-14:15:00": 2,
        "quarter:page_view:2025-03-14:23:45": 1,
    }
    assert users(*events) == {"u1:page_view:2025-03-14": 2, "u2:page_view:2025-03-14": 1}


def test_midnight_belongs_to_the_new_day() -> None:
    midnight = NOW.replace(hour=0, minute=0, second=0)
    before = midnight - timedelta(microseconds=1)
    both = [event(timestamp=midnight), event(timestamp=before)]
    assert set(increments(*both).counters) == {
        "analytics:counter:page_view:2025-03-14",
        "analytics:counter:page_view:2025-03-13",
    }
    assert set(quarters(*both)) == {
        "quarter:page_view:2025-03-14:00:00",
        "quarter:page_view:2025-03-13:23:45",
    }


def test_no_events_count_nothing() -> None:
    assert len(increments()) == 0


def test_the_number_of_increments_includes_those_of_values() -> None:
    events = [event(user_id="u", properties={"path": path}) for path in "aab"]
    assert len(increments(*events)) == 3 + 2


# Properties


def test_a_property_is_counted_by_value_where_the_setting_names_it() -> None:
    found = increments(*[event(properties={"path": path, "ms": 5}) for path in ("/", "/a", "/")])
    [group] = found.values
    assert group.values_key == "analytics:values:page_view:path:2025-03-14"
    assert group.rest_field == "page_view:path:__other__:2025-03-14"
    assert group.rest_bucket == bucket_of("page_view:path:__other__")
    assert group.counters == [
        ("/", bucket_of("page_view:path:/"), "page_view:path:/:2025-03-14", 2),
        ("/a", bucket_of("page_view:path:/a"), "page_view:path:/a:2025-03-14", 1),
    ]


def test_other_sent_as_a_value_is_apart_from_those_that_the_cap_counts() -> None:
    paths = ["/", "__other__", "__other__"]
    found = increments(*[event(properties={"path": path}) for path in paths])
    [group] = found.values
    assert (group.rest, [value for value, *_ in group.counters]) == (2, ["/"])
    assert len(found) == 2 + 2


def test_only_the_types_that_the_setting_names_are_counted_by_value() -> None:
    other = event("click", properties={"path": "/"})
    assert increments(other).values == []
    assert increments(event(properties={"path": "/"}), count_by={}).values == []


def test_several_properties_and_days_are_kept_apart() -> None:
    both = {"page_view": ["path", "country"]}
    properties = {"path": "/", "country": "CL"}
    yesterday = event(properties=properties, timestamp=NOW - timedelta(days=1))
    found = increments(event(properties=properties), yesterday, count_by=both)
    assert {group.values_key for group in found.values} == {
        "analytics:values:page_view:path:2025-03-14",
        "analytics:values:page_view:country:2025-03-14",
        "analytics:values:page_view:path:2025-03-13",
        "analytics:values:page_view:country:2025-03-13",
    }


def test_days_long_past_share_one_set_of_distinct_values() -> None:
    """Thousands of days, each with values up to the cap, would fill Redis."""
    old = [NOW - timedelta(days=days) for days in (1_099, 1_100, 3_000)] + [NOW.replace(year=1)]
    found = increments(*(event(properties={"path": "/"}, timestamp=at) for at in old))
    assert [group.values_key.rpartition(":")[2] for group in found.values] == [
        f"{old[0].date()}",
        *["past"] * 3,
    ]
    fields = {field for group in found.values for _, _, field, _ in group.counters}
    assert fields == {f"page_view:path:/:{at.date()}" for at in old}


@pytest.mark.parametrize("properties", [None, {}, {"other": 1}, {"path": None}], ids=str)
def test_an_event_without_the_property_or_with_null_is_not_counted_by_it(
    properties: dict[str, Any] | None,
) -> None:
    assert values(properties) == {}


@pytest.mark.parametrize(
    ("value", "counted_as"),
    [
        ("", ""),
        ("12", "12"),
        (12, "12"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        ([1, "a"], '[1,"a"]'),
        ({"a": None}, '{"a":null}'),
        ({"é": "語"}, '{"é":"語"}'),
    ],
    ids=str,
)
def test_text_counts_as_it_is_and_everything_else_as_its_json(value: Any, counted_as: str) -> None:
    assert values({"path": value}) == {counted_as: 1}


def test_a_value_of_200_characters_is_kept_and_a_longer_one_cut_and_marked() -> None:
    assert values({"path": "é" * 200}, {"path": "é" * 201}, {"path": "é" * 200 + "x"}) == {
        "é" * 200: 1,
        "é" * 200 + CUT_MARK: 2,
    }


@pytest.mark.parametrize(
    ("at", "expires_at"),
    [
        (NOW, datetime(2025, 3, 17, tzinfo=UTC)),
        (datetime(2015, 5, 17, tzinfo=UTC), NOW + timedelta(days=2)),
        (datetime(1, 1, 1, tzinfo=UTC), NOW + timedelta(days=2)),
    ],
    ids=str,
)
def test_distinct_values_are_remembered_for_two_days_past_their_day_or_past_now(
    at: datetime, expires_at: datetime
) -> None:
    [group] = increments(event(properties={"path": "/"}, timestamp=at)).values
    assert group.expire_at_s == int(expires_at.timestamp())
