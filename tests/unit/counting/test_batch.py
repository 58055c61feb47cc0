"""A batch of messages: what is counted, what is a duplicate, what is a dead letter."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.counting.batch import Applied, BadEvent, Batch, Delivery, read_delivery
from pipeline.redis.keys import Keys
from tests.helpers.support import NOW, event

DAY = "analytics:counter:page_view:2025-03-14"


def prepared(*deliveries: Delivery) -> tuple[Batch, dict[str, Any]]:
    batch = Batch(list(deliveries))
    return batch, batch.prepare({}, Keys(), NOW)


# Reading


def test_a_message_is_read_into_its_events() -> None:
    items = [{"event_type": "a"}, {"event_type": "b", "timestamp": "2015-05-17T10:00:00Z"}]
    delivery = read_delivery(items, NOW, task_id="t")
    assert [one.event_type for one in delivery.events] == ["a", "b"]
    assert delivery.events[0].timestamp == NOW
    assert delivery.bad == []
    assert delivery.task_id == "t"


@pytest.mark.parametrize(
    "bad",
    [
        {"event_type": ""},
        {"event_type": "a", "\ud800": 1},
        None,
        3,
        "x",
        [1],
        {"userId": float("inf")},
    ],
    ids=ascii,
)
def test_a_bad_event_is_set_apart_as_it_came_and_the_others_are_kept(bad: object) -> None:
    delivery = read_delivery([{"event_type": "a"}, bad, {"event_type": "b"}], NOW)
    assert [one.event_type for one in delivery.events] == ["a", "b"]
    [letter] = delivery.bad
    assert json.loads(letter.raw) == bad
    assert letter.reason.encode()


def test_a_bad_event_is_booked_under_the_type_that_it_names() -> None:
    bad = [{"event_type": "a", "timestamp": "never"}, {"event_type": "a", "color": "red"}]
    nameless = [{"event_type": ""}, {"event_type": 7}, {"event_type": "\x00"}, {}, "a", None]
    _, message = prepared(read_delivery([*bad, *nameless, {"event_type": "a"}], NOW, tag="1"))
    assert message["books"] == {
        "consumed": 9,
        "counted": 1,
        "dead": 8,
        "consumed:a": 3,
        "counted:a": 1,
        "dead:a": 2,
        "consumed:__unknown__": 6,
        "dead:__unknown__": 6,
    }


# Putting together


def test_deliveries_are_summed_into_one_set_of_increments() -> None:
    batch, message = prepared(Delivery([event(), event()], tag="1"), Delivery([event()], tag="2"))
    assert message["tags"] == ["1", "2"]
    assert message["counters"][DAY] == 3
    books = {"counted": 3, "consumed": 3}
    assert message["books"] == books | {"counted:page_view": 3, "consumed:page_view": 3}
    assert batch.applied(pending=7) == Applied(counted=3, pending=7)


def test_of_several_events_with_one_id_the_first_is_counted() -> None:
    first, again, other = (
        event(user_id=user, event_id=key) for user, key in [("u1", "k"), ("u2", "k"), ("u3", "j")]
    )
    batch, message = prepared(Delivery([first, again], tag="1"), Delivery([again, other], tag="2"))
    assert message["counters"][DAY] == 2
    fields = [field for of_bucket, _ in message["buckets"].values() for field in of_bucket]
    of_users = ["u1:page_view:2025-03-14", "u3:page_view:2025-03-14"]
    assert sorted(fields) == ["quarter:page_view:2025-03-14:15:00", *of_users]
    assert len(message["ids"][0][1]) == 2
    assert batch.applied(0) == Applied(counted=2, duplicate=2)


def test_of_several_messages_with_one_task_id_the_first_is_counted() -> None:
    batch, message = prepared(*[Delivery([event()], tag=tag, task_id="t") for tag in "123"])
    assert message["tags"] == ["1", "2", "3"]
    assert message["counters"][DAY] == 1
    assert len(message["ids"][1][1]) == 1
    assert batch.applied(0) == Applied(counted=1, duplicate=2)


def test_a_message_that_is_gone_leaves_no_trace() -> None:
    batch, _ = prepared(Delivery([event()], tag="1"), Delivery([event("click")], tag="2"))
    batch.leave_out(gone=[1], seen_events=[], seen_tasks=[])
    message = batch.prepare({}, Keys(), NOW)
    assert message["tags"] == ["2"]
    assert DAY not in message["counters"]
    books = {"counted": 1, "consumed": 1}
    assert message["books"] == books | {"counted:click": 1, "consumed:click": 1}


def test_the_id_in_a_message_that_is_gone_does_not_hide_the_next_event_with_it() -> None:
    """Had the message that is gone been counted under this id, Redis would know the id as well."""
    same = event(event_id="k")
    batch, _ = prepared(Delivery([same], tag="1"), Delivery([same], tag="2"))
    batch.leave_out(gone=[1], seen_events=[], seen_tasks=[])
    assert batch.prepare({}, Keys(), NOW)["counters"][DAY] == 1


def test_an_event_whose_id_was_seen_is_left_out_and_its_message_consumed() -> None:
    seen, new = event(event_id="k"), event(event_id="j")
    batch, _ = prepared(Delivery([new, seen, seen], tag="1"))
    batch.leave_out(gone=[], seen_events=[2], seen_tasks=[])
    message = batch.prepare({}, Keys(), NOW)
    assert message["tags"] == ["1"]
    assert message["counters"][DAY] == 1
    assert len(message["ids"][0][1]) == 1
    assert batch.applied(0) == Applied(counted=1, duplicate=2)


def test_a_message_whose_task_id_was_seen_is_consumed_without_a_count() -> None:
    bad = BadEvent(b"{}", "reason")
    batch, _ = prepared(Delivery([event(event_id="k")], [bad], tag="1", task_id="t"))
    batch.leave_out(gone=[], seen_events=[], seen_tasks=[1])
    message = batch.prepare({}, Keys(), NOW)
    assert (message["tags"], message["ids"][1][1], message["ids"][0][1]) == (["1"], [], [])
    assert (message["counters"], message["dead"], batch.bodies) == ({}, [], [])
    assert (message["buckets"], message["values"]) == ({}, [])
    assert batch.applied(0) == Applied(duplicate=2)


def test_a_message_that_has_expired_is_consumed_and_booked_and_nothing_in_it_counted() -> None:
    bad = BadEvent(b"{}", "reason", event_type="sale")
    late = Delivery([event("sale")], [bad], tag="t1", is_expired=True)
    batch, message = prepared(late, Delivery([event("sale")], tag="t2"))
    assert message["tags"] == ["t1", "t2"]
    assert batch.bodies == []
    books = message["books"]
    assert (books["consumed"], books["counted"], books["expired:sale"]) == (3, 1, 2)
    assert batch.applied(0) == Applied(counted=1, expired=2)


def test_answers_of_several_rounds_add_up() -> None:
    deliveries = [Delivery([event(event_id=tag)], tag=tag) for tag in "1234"]
    batch, _ = prepared(*deliveries)
    batch.leave_out(gone=[1], seen_events=[3], seen_tasks=[])
    assert len(batch.prepare({}, Keys(), NOW)["ids"][0][1]) == 2
    batch.leave_out(gone=[1], seen_events=[], seen_tasks=[])  # positions in what was asked last
    message = batch.prepare({}, Keys(), NOW)
    assert message["tags"] == ["3", "4"]
    assert message["counters"][DAY] == 1


def test_bad_events_become_dead_letters_and_are_booked() -> None:
    letters = [BadEvent(b"\xff", "one"), BadEvent(b"raw", "two", events=5, kind="message")]
    batch, message = prepared(Delivery([event()], letters, tag="1"))
    assert message["dead"] == [
        {"kind": "event", "reason": "one"},
        {"kind": "message", "reason": "two"},
    ]
    assert batch.bodies == [b"\xff", b"raw"]
    assert message["books"] == {
        "counted": 1,
        "counted:page_view": 1,
        "consumed:page_view": 1,
        "dead": 6,
        "dead:__unknown__": 6,
        "consumed:__unknown__": 6,
        "consumed": 7,
    }
    assert batch.applied(0) == Applied(counted=1, dead=6)


def test_only_messages_of_numbered_producers_enter_the_books_of_messages() -> None:
    _, message = prepared(
        Delivery([event()], tag="analytics/0123/1"), Delivery([event()], tag="a-uuid")
    )
    assert message["books"]["consumed_messages"] == 1


def test_ids_are_remembered_in_20_characters_whatever_their_length() -> None:
    short, long = event(event_id="k"), event(event_id="é" * 100)
    _, message = prepared(Delivery([short, long], tag="1", task_id="t" * 10_000))
    assert {len(digest) for digest in message["ids"][0][1] + message["ids"][1][1]} == {20}
