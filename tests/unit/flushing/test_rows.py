"""From fields to rows: what is ours comes once and in order, what is not is set apart."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.flushing.claims import Fields
from pipeline.flushing.counter_rows import Refused, counter_name
from pipeline.flushing.store import (
    Group,
    Groups,
    halve,
    parameters_of,
    rows_of,
    rows_of_fields,
)
from pipeline.postgres.tables import (
    BETWEEN_GROUPS,
    BETWEEN_ROWS,
    daily,
    dimension_daily,
    event_log_gaps,
    hourly,
    user_daily,
)
from pipeline.redis.keys import Keys

KEYS = Keys()
DAY = "2025-03-14"
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)
tricky = st.text(st.sampled_from(":%{} \n\x1f\u2028é語"), min_size=1, max_size=4)
segments = texts | tricky
days = st.dates().map(str)


def field(*segments: str) -> bytes:
    """The field of a user (id, type, day), or of a value (type, property, value, day)."""
    name = KEYS.user(*segments) if len(segments) == 3 else KEYS.value(*segments)  # type: ignore[call-arg]
    return KEYS.field_in_bucket(name).encode()


def flat(groups: Groups) -> list[tuple[str, ...]]:
    """The rows of groups: their keys, then the count."""
    return [(*head, *row) for head, *rest in groups for row in zip(*rest, strict=True)]


def read(*pages: Fields) -> tuple[dict[str, list[tuple[str, ...]]], list[Refused]]:
    """The rows by table, each with its count, and what is refused."""
    rows, refused = rows_of_fields(pages, KEYS)
    assert len({table for table, _ in rows}) == len(rows)
    return {table.name: flat(groups) for table, groups in rows}, refused


USERS, VALUES = user_daily.name, dimension_daily.name


# What is ours


def test_a_field_is_the_row_of_its_user_or_of_its_value() -> None:
    page = {b"u1:page_view:2025-03-14": b"3", b"page_view:path:/:2025-03-14": b"4"}
    assert read(page) == (
        {
            USERS: [(DAY, "page_view", "u1", "3")],
            VALUES: [(DAY, "page_view", "path", "/", "4")],
        },
        [],
    )


@given(
    st.dictionaries(st.tuples(segments, segments, days), st.integers(-(2**63), 2**63 - 1)),
    st.dictionaries(st.tuples(segments, segments, segments, days), st.integers(0, 2**63 - 1)),
    st.integers(1, 4),
)
def test_every_field_of_ours_becomes_its_row_in_the_order_of_keys_whatever_page_it_is_on(
    users: dict[tuple[str, str, str], int],
    values: dict[tuple[str, str, str, str], int],
    pages: int,
) -> None:
    fields = [(field(*key), b"%d" % n) for key, n in (users | values).items()]  # type: ignore[operator]
    rows, refused = read(*(dict(fields[first::pages]) for first in range(pages)))
    assert refused == []
    of_users = [(day, kind, user, f"{n}") for (user, kind, day), n in users.items()]
    of_values = [(day, kind, name, value, f"{n}") for (kind, name, value, day), n in values.items()]
    assert rows.get(USERS, []) == sorted(of_users)
    assert rows.get(VALUES, []) == sorted(of_values)


@pytest.mark.parametrize("user", ["u1", "a b", "a:b", "é", "\u200d", "\x1f"], ids=ascii)
def test_a_field_that_comes_twice_is_one_row(user: str) -> None:
    """Redis may return one again, on the same page or on another."""
    twice, once = field(user, "page_view", DAY), field("other", "page_view", DAY)
    rows, refused = read({twice: b"3", once: b"1"}, {}, {twice: b"3"})
    expected = [(DAY, "page_view", "other", "1"), (DAY, "page_view", user, "3")]
    assert (rows[USERS], refused) == (sorted(expected), [])


def test_no_fields_are_no_rows() -> None:
    assert read() == read({}) == read({}, {}) == ({}, [])


# What others have written


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"pad2",
        b"a",
        b"a:b",
        b"a:b:c:d:2025-03-14",
        b"u1:page_view:yesterday",
        b"u1:page_view:",
        b"u1:page_view:2025-02-30",
        b"page_view:path:/:2025-3-14",
        b"\xff\xfe:page_view:2025-03-14",
        b"u\x00:page_view:2025-03-14",
        b"u%00:page_view:2025-03-14",
        b"u%FF:page_view:2025-03-14",
        b"u%ED%A0%80:page_view:2025-03-14",
        b"page_view:pa\x00th:/:2025-03-14",
    ],
    ids=ascii,
)
def test_a_field_that_is_no_counter_is_refused_by_name_and_the_others_are_kept(
    name: bytes,
) -> None:
    rows, refused = read({b"u1:page_view:2025-03-14": b"3", name: b"7", b"u2:a:0001-01-01": b"1"})
    assert rows == {USERS: [("0001-01-01", "a", "u2", "1"), (DAY, "page_view", "u1", "3")]}
    [one] = refused
    expected = KEYS.name_of(name.decode(errors="surrogateescape"))
    assert (one.counter, one.count) == (expected, "7")
    assert one.reason


@pytest.mark.parametrize(
    ("ours", "name"),
    [
        (b"a%20b:page_view:2025-03-14", b"a b:page_view:2025-03-14"),
        (b"a%7Bb:page_view:2025-03-14", b"a{b:page_view:2025-03-14"),
        (b"a%7Db:page_view:2025-03-14", b"a}b:page_view:2025-03-14"),
        (b"a%0Ab:page_view:2025-03-14", b"a\nb:page_view:2025-03-14"),
        (b"a%3Ab:page_view:2025-03-14", b"a%3ab:page_view:2025-03-14"),
        (b"ab:page_view:2025-03-14", b"a%62:page_view:2025-03-14"),
        (b"ab:page_view:2025-03-14", b"ab:page_view:20250314"),
        (b"ab:page_view:2025-03-14", b"ab:page_view:2025-W11-5"),
        (b"page_view:path:/:2025-03-14", b"page_view:p%61th:/:2025-03-14"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("on_one_page", [True, False])
def test_a_field_that_another_way_of_writing_leads_to_the_row_of_ours_does_not_replace_it(
    ours: bytes, name: bytes, on_one_page: bool
) -> None:
    for order in ((ours, name), (name, ours)):
        counts = {one: b"3" if one == ours else b"7" for one in order}
        pages = [counts] if on_one_page else [{one: n} for one, n in counts.items()]
        rows, refused = read(*pages)
        [[row]] = rows.values()
        assert row[-1] == "3"
        assert [(one.counter, one.count) for one in refused] == [(KEYS.name_of(name.decode()), "7")]
        assert "is written" in refused[0].reason


@pytest.mark.parametrize(
    "count",
    [
        *(
            b"",
            b"-",
            b"abc",
            b"1.5",
            b"1e3",
            b"0x10",
            b" 1",
            b"1 ",
            b"1 2",
            b"+1",
            b"1_000",
            b"1\n",
        ),
        *("\u0663".encode(), "\u00b2".encode(), b"\xff", b"1\x00", b"9" * 21),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("name", [b"u1:page_view:2025-03-14", b"a%20b:page_view:2025-03-14"])
def test_a_count_that_is_no_number_is_refused_and_the_others_are_kept(
    name: bytes, count: bytes
) -> None:
    rows, refused = read({b"u2:page_view:2025-03-14": b"1", name: count})
    assert rows == {USERS: [(DAY, "page_view", "u2", "1")]}
    text = count.decode(errors="surrogateescape")
    reason = "the counter is not a whole number"
    assert refused == [Refused(KEYS.name_of(name.decode()), text, reason)]


@pytest.mark.parametrize("count", [b"0", b"-1", b"9223372036854775807", b"-9223372036854775808"])
def test_any_number_that_redis_adds_up_to_is_kept(count: bytes) -> None:
    rows, refused = read({b"u1:page_view:2025-03-14": count})
    assert (rows[USERS], refused) == ([(DAY, "page_view", "u1", count.decode())], [])


def test_a_field_refused_that_comes_twice_is_refused_once() -> None:
    assert len(read({b"odd": b"1"}, {b"odd": b"1"})[1]) == 1


def test_a_page_with_odd_bytes_leaves_the_next_one_as_it_is() -> None:
    odd = {b"\xff \x00": b"\xff", b"u1:page_view:2025-03-14": b"3"}
    rows, refused = read(odd, {b"u2:page_view:2025-03-14": b"4"})
    assert rows[USERS] == [(DAY, "page_view", "u1", "3"), (DAY, "page_view", "u2", "4")]
    assert len(refused) == 1


def test_what_is_read_is_not_remembered() -> None:
    """A flush reads millions of fields."""

    def read_pages() -> None:
        for page in range(300):
            users = (f"user{page}-{n}" for n in range(500))
            rows_of_fields([{field(user, "page_view", DAY): b"1" for user in users}], KEYS)

    tracemalloc.start()
    read_pages()
    remembered_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert remembered_bytes < 1_000_000


# Counters by name


def test_counters_by_name_are_rows_in_the_order_of_their_keys() -> None:
    counts = {
        KEYS.daily("b", DAY): 1,
        KEYS.daily("a", DAY): 2,
        KEYS.hourly("a", f"{DAY}:15"): 3,
        KEYS.gap("a", "full", f"{DAY}:15"): 4,
        KEYS.user("u", "a", DAY): 5,
        KEYS.value("a", "p", "v", DAY): 6,
        "analytics:odd": 7,
    }
    rows, refused = rows_of(counts, KEYS)
    hour = f"{DAY} 15:00:00+00:00"
    assert {table.name: flat(groups) for table, groups in rows} == {
        daily.name: [("a", DAY, "2"), ("b", DAY, "1")],
        hourly.name: [("a", hour, "3")],
        event_log_gaps.name: [("a", "full", hour, "4")],
        USERS: [(DAY, "a", "u", "5")],
        VALUES: [(DAY, "a", "p", "v", "6")],
    }
    assert [(one.counter, one.count) for one in refused] == [("analytics:odd", "7")]


@given(segments, segments, segments, days, st.integers(0, 23))
def test_a_row_leads_back_to_the_name_of_its_counter(
    first: str, second: str, third: str, day: str, hour: int
) -> None:
    names = [
        KEYS.daily(first, day),
        KEYS.hourly(first, f"{day}:{hour:02}"),
        KEYS.gap(first, "off", f"{day}:{hour:02}"),
        KEYS.user(first, second, day),
        KEYS.value(first, second, third, day),
    ]
    for name in names:
        [(table, groups)] = rows_of({name: 1}, KEYS)[0]
        [row] = flat(groups)
        assert counter_name(table, row, KEYS) == name


# Groups


def test_two_ways_to_write_a_name_are_one_row() -> None:
    counts = {KEYS.daily("a", DAY): 1, KEYS.daily("a", DAY).replace("a:2", "%61:2"): 2}
    assert rows_of(counts, KEYS) == ([(daily, [Group(["a"], [DAY], ["3"])])], [])


def test_rows_with_a_key_in_common_but_for_its_last_column_are_a_group() -> None:
    names = [KEYS.user(user, kind, DAY) for user, kind in (("2", "b"), ("1", "b"), ("1", "a"))]
    groups = [Group([DAY, "a"], ["1"], ["7"]), Group([DAY, "b"], ["1", "2"], ["7", "7"])]
    assert rows_of(dict.fromkeys(names, 7), KEYS) == ([(user_daily, groups)], [])


@pytest.mark.parametrize("groups", [[5], [1, 1], [2, 3, 1], [4, 1, 1, 1]])
def test_halves_have_all_rows_and_come_to_single_ones(groups: list[int]) -> None:
    whole = [Group((f"{n}",), [*"abcde"[:n]], [*"12345"[:n]]) for n in groups]

    def singles(some: Groups) -> list[Groups]:
        first_and_second = halve(some) if len(flat(some)) > 1 else ()
        assert all(flat(half) for half in first_and_second)
        return [one for half in first_and_second for one in singles(half)] or [some]

    found = singles(whole)
    assert [row for one in found for row in flat(one)] == flat(whole)
    assert len(found) == sum(groups)


def test_the_key_of_a_group_goes_to_postgres_once() -> None:
    groups = [Group((DAY, "a"), ("u1", "u2"), ("7", "8")), Group((DAY, "b"), ("u1",), ("9",))]
    assert parameters_of(user_daily, groups) == {
        "date": f"{DAY}\x1e{DAY}",
        "event_type": "a\x1eb",
        "user_id": "u1\x1fu2\x1eu1",
        "count": "7\x1f8\x1e9",
        BETWEEN_GROUPS: "\x1e",
        BETWEEN_ROWS: "\x1f",
    }


@pytest.mark.parametrize("tricky", ["\x1e", "\x1f", "a\x1eb", "\x1f\x1e"])
@pytest.mark.parametrize("place", ["head", "last"])
def test_a_name_with_a_separator_in_it_is_not_cut(tricky: str, place: str) -> None:
    head, last = (tricky, "u") if place == "head" else ("a", tricky)
    found = parameters_of(user_daily, [Group((DAY, head), ("b", last), ("1", "2"))])
    assert found["event_type"] == head
    assert found["user_id"].split(found[BETWEEN_ROWS]) == ["b", last]
    assert found["user_id"].split(found[BETWEEN_GROUPS]) == [found["user_id"]]
