"""Raw events: which are logged where, and that an entry's blob gives back what was put in."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.counting.batch import Batch, Delivery
from pipeline.counting.log_entries import as_events, log_events, pack, partition_of, unpack
from pipeline.event.model import Event
from pipeline.event_log.copying import copy_text
from pipeline.options import MAX_LOG_PARTITIONS, EventLogOptions
from pipeline.redis.keys import Keys
from tests.helpers.support import NOW, event, json_values_of

HOUR = "2025-03-14:15"
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)
json_values = json_values_of(texts)
events = st.builds(
    Event,
    texts,
    st.datetimes().map(lambda at: at.replace(tzinfo=UTC)),
    st.none() | texts,
    st.none() | st.dictionaries(texts, json_values, max_size=4),
    st.none() | texts,
)


@given(st.lists(events, max_size=5))
def test_a_blob_gives_back_its_events(some: list[Event]) -> None:
    assert list(as_events(unpack(pack(some)))) == some


@given(st.lists(events, min_size=1, max_size=5))
def test_the_text_for_copy_has_a_row_for_each_event_and_leads_back_to_it(some: list[Event]) -> None:
    text = copy_text(unpack(pack(some)))
    rows = text.split("\n")
    assert rows.pop() == ""
    found = [[_from_copy(column) for column in row.split("\t")] for row in rows]
    assert [(row[0], row[2], row[4]) for row in found] == [
        (one.event_type, one.user_id, one.event_id) for one in some
    ]


def _from_copy(column: str) -> str | None:
    """A column of COPY's text format, as Postgres reads it."""
    if column == r"\N":
        return None
    escapes = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
    out, parts = "", iter(column)
    for character in parts:
        out += escapes[next(parts)] if character == "\\" else character
    return out


@pytest.mark.parametrize(
    ("blob", "form", "said"),
    [
        (b"", "1", "cannot be read"),
        (b"nonsense", "1", "cannot be read"),
        (zlib.compress(b"{}"), "1", "cannot be read"),
        (zlib.compress(b'[["a"],[],[],[],[]]'), "1", "differ in length"),
        (zlib.compress(b"[[],[],[],[]]"), "1", "cannot be read"),
        (pack([event()]), "2", "format is '2'"),
    ],
)
def test_what_is_no_blob_of_ours_is_refused(blob: bytes, form: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        unpack(blob, form)


@pytest.mark.parametrize(
    ("types", "logged"),
    [("all", True), ("none", False), (["a"], True), (["b"], False), ([], False)],
)
def test_types_are_logged_as_the_setting_says(types: Any, *, logged: bool) -> None:
    assert (partition_of("a", EventLogOptions(types)) is not None) is logged
    entries, _, _ = log_events([event("a")], {("a", HOUR): 1}, EventLogOptions(types), Keys())
    assert bool(entries) is logged


@given(texts, st.integers(1, MAX_LOG_PARTITIONS))
def test_a_type_is_always_in_the_same_one_of_the_partitions(name: str, partitions: int) -> None:
    options = EventLogOptions(partitions=partitions)
    assert partition_of(name, options) in range(partitions)
    again = EventLogOptions(partitions=partitions)
    assert partition_of(name, options) == partition_of(name, again)


def test_a_batch_that_is_made_again_logs_only_what_it_counts() -> None:
    first, second = event(event_id="a"), event(event_id="b")
    batch = Batch([Delivery([first, second], tag="1")], EventLogOptions())
    for _ in range(2):
        message = batch.prepare({}, Keys(), NOW)
        [entry] = message["log"]
        assert entry.events == len(list(as_events(unpack(batch.blobs[0]))))
        assert entry.gap == {f"analytics:gap:page_view:full:{HOUR}": entry.events}
        batch.leave_out([], [1], [])
    assert entry.events == 1
    assert list(as_events(unpack(batch.blobs[0]))) == [second]
    batch.leave_out([1], [], [])
    assert batch.prepare({}, Keys(), NOW)["log"] == []
    assert batch.blobs == []


def test_an_entry_says_what_to_count_if_it_finds_no_room() -> None:
    late = event("b", timestamp=datetime(2025, 3, 14, 23, tzinfo=UTC))
    delivery = Delivery([event("a"), event("a"), late], tag="1")
    message = Batch([delivery], EventLogOptions(["a", "b"])).prepare({}, Keys(), NOW)
    [entry] = message["log"]
    assert entry.gap == {
        f"analytics:gap:a:full:{HOUR}": 2,
        "analytics:gap:b:full:2025-03-14:23": 1,
    }
